-- Joins of our users that were handed in at another server, until we are in the room or they are taken back: there they
-- may count though nothing came of them here.
-- `tries`: how often they were handed in. `failures`: how often they couldn't be taken back. `retry_at`: not to be taken
-- back before, milliseconds since 1970.
CREATE TABLE sent_join (
    user_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    server TEXT NOT NULL,
    sent_ts BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    retry_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, room_id, server)
);

CREATE INDEX sent_join_due ON sent_join (retry_at);
