-- Rooms that were joined before their members were known (docs/adr/0027-joining-before-the-members-are-known.md).

-- The join by which the room is partial; NULL: its state is known in full.
ALTER TABLE room ADD COLUMN partial_join BIGINT;

-- What is to be done about it. `ask`: servers that may tell the state before the join, as JSON, in order. Times are milliseconds
-- since 1970.
CREATE TABLE partial_room (
    room ROW_ID PRIMARY KEY,
    joined_ms BIGINT NOT NULL,
    ask TEXT NOT NULL,
    tries BIGINT NOT NULL,
    retry_at BIGINT NOT NULL
);
CREATE INDEX partial_room_retry_at ON partial_room (retry_at);

-- Servers that were said to be in it. Each counts as one member more in `room_server`.
CREATE TABLE partial_server (
    room BIGINT NOT NULL,
    server BIGINT NOT NULL,
    PRIMARY KEY (room, server)
);
CREATE INDEX partial_server_server ON partial_server (server);

-- Events that were decided upon partial state, by the join.
CREATE TABLE partial_event (
    event ROW_ID PRIMARY KEY,
    joined BIGINT NOT NULL
);
CREATE INDEX partial_event_joined ON partial_event (joined);

-- Where in the log the members of such a room came to be known, last.
CREATE TABLE members_known (
    room ROW_ID PRIMARY KEY,
    pos BIGINT NOT NULL
);
CREATE UNIQUE INDEX members_known_pos ON members_known (pos);
