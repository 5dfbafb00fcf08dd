-- Answers of servers about their keys before the last one, as they signed them, as far as they have keys that no
-- later one has: what we go on passing on as a notary. `place`: 0 is the newest of them.
CREATE TABLE server_key_former (
    server TEXT NOT NULL,
    place BIGINT NOT NULL,
    response TEXT NOT NULL,
    valid_until BIGINT NOT NULL,
    fetched BIGINT NOT NULL,
    PRIMARY KEY (server, place)
);
