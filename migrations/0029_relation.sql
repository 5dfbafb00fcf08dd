-- Which events relate to which: what `m.relates_to` of an event says with `rel_type` and `event_id` (client-server,
-- "Forming relationships between events"). One row for each accepted event of the history that relates to another;
-- a redaction takes it away. `parent`: the id, for it may not be here yet, or never. `depth`, `ord`, `kind`: as the
-- child's row in `event` has them. `annotation`: the `key` of an `m.annotation`.
CREATE TABLE relation (
    child ROW_ID PRIMARY KEY,
    room BIGINT NOT NULL,
    parent TEXT NOT NULL,
    rel_type TEXT NOT NULL,
    kind TEXT NOT NULL,
    sender BIGINT NOT NULL,
    depth BIGINT NOT NULL,
    ord BIGINT NOT NULL,
    annotation TEXT
);
-- The children of an event in the order of the history, all of them and those of a type.
CREATE INDEX relation_children ON relation (room, parent, depth, ord);
CREATE INDEX relation_of_type ON relation (room, parent, rel_type, depth, ord);
-- Who relates to an event how.
CREATE INDEX relation_sender ON relation (room, parent, sender, rel_type);
-- A room's threads by their latest activity.
CREATE INDEX relation_thread ON relation (room, ord) WHERE rel_type = 'm.thread';

-- How far the events from before this table have been looked through, by number; no row once all have been.
CREATE TABLE relation_fill (
    id BIGINT PRIMARY KEY,
    upto BIGINT NOT NULL
);
INSERT INTO relation_fill (id, upto) VALUES (1, 0);
