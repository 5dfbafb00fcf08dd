-- What is to be redacted with an event because it relates to it so (MSC3912), on whose behalf: once the event itself is
-- redacted, what is there and what comes later. `rel_type`: '*' is any.
CREATE TABLE related_redaction (
    room BIGINT NOT NULL,
    target TEXT NOT NULL,
    sender BIGINT NOT NULL,
    rel_type TEXT NOT NULL,
    reason TEXT,
    PRIMARY KEY (room, target, sender, rel_type)
);

-- What `m.relationship` of an event says (MSC2836), whether the event has a place in the history or not; a redaction leaves
-- it. `ts`: the child's `origin_server_ts`.
CREATE TABLE relationship (
    child ROW_ID PRIMARY KEY,
    room BIGINT NOT NULL,
    parent TEXT NOT NULL,
    rel_type TEXT NOT NULL,
    ts BIGINT NOT NULL
);
CREATE INDEX relationship_children ON relationship (room, parent, ts);
-- How many children other servers say that an event has: `children`, a JSON object of numbers by `rel_type`; `hash`, of
-- their ids; `explored`, the hash about which another server was asked.
CREATE TABLE relationship_told (
    room BIGINT NOT NULL,
    parent TEXT NOT NULL,
    total BIGINT NOT NULL,
    children TEXT NOT NULL,
    hash TEXT NOT NULL,
    explored TEXT,
    PRIMARY KEY (room, parent)
);
