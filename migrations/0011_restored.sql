-- Events that came without their content (their hash said so) and got it later, from a whole copy.
-- What anybody remembers of such an event is old from `pos` on.
CREATE TABLE restored (
    pos ROW_ID PRIMARY KEY,
    room BIGINT NOT NULL,
    event BIGINT NOT NULL
);
