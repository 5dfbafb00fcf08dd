-- What connections of sliding sync (MSC4186) have been told, so that another process or life goes on from there.
-- A connection stands at `version`: what it was told of each room by then is in `sliding_room`. What an answer upon it
-- told is a version of its own until the client shows that it has got it. `configs`: a JSON array of what state was
-- asked for. `seen_ms`: when it was last used, to within a day.
CREATE TABLE sliding_connection (
    no ROW_ID PRIMARY KEY,
    user_no BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    conn_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    configs TEXT NOT NULL,
    seen_ms BIGINT NOT NULL
);
CREATE INDEX sliding_connection_device ON sliding_connection (user_no, device_id, conn_id);
CREATE INDEX sliding_connection_seen ON sliding_connection (seen_ms);

-- `upto`: up to where it was told; 0: up to the connection's last answer. `timeline`: how many of its newest events the
-- client surely has. `config`: the index of the state that it has.
CREATE TABLE sliding_room (
    connection BIGINT NOT NULL,
    room BIGINT NOT NULL,
    upto BIGINT NOT NULL,
    timeline BIGINT NOT NULL,
    config BIGINT NOT NULL,
    direct BIGINT NOT NULL,
    PRIMARY KEY (connection, room)
);

-- What differs from the connection's version: rows of `sliding_room` as a JSON array.
CREATE TABLE sliding_version (
    connection BIGINT NOT NULL,
    version BIGINT NOT NULL,
    rooms TEXT NOT NULL,
    PRIMARY KEY (connection, version)
);
