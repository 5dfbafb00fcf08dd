-- What the relations of a room tell of its events: its threads by their latest activity, and edits by when they were made.

-- A room's threads: `root`, the id of the event that they hang off (which may not be here), and the `ord` of the latest
-- event in it; NULL once all have been redacted.
CREATE TABLE thread (
    room BIGINT NOT NULL,
    root TEXT NOT NULL,
    latest BIGINT,
    PRIMARY KEY (room, root)
);
CREATE INDEX thread_latest ON thread (room, latest);
INSERT INTO thread (room, root, latest)
    SELECT room, parent, MAX(ord) FROM relation WHERE rel_type = 'm.thread' GROUP BY room, parent;
-- A thread's latest event is looked up by what follows.
DROP INDEX relation_thread;

-- Of an `m.replace` that may be an edit as far as it tells itself (not state, with new content or encrypted): its
-- `origin_server_ts`. And the history's visibility at each event, as its row has it. What is there already is looked
-- through for both, at every start: also what an older binary writes meanwhile has neither. Until then it counts as
-- hidden from who wasn't there.
ALTER TABLE relation ADD COLUMN edited_at BIGINT;
ALTER TABLE relation ADD COLUMN visibility BIGINT;
CREATE INDEX relation_unfilled ON relation (child) WHERE visibility IS NULL;

-- The children of an event in the order in which they came, with what they may be chosen by.
CREATE INDEX relation_arrival ON relation (room, parent, ord, rel_type, kind);
-- Its children of a type by events of a type, in the order of the history.
CREATE INDEX relation_of_kind ON relation (room, parent, rel_type, kind, depth, ord);
-- The edits of an event by each sender.
CREATE INDEX relation_edit ON relation (room, parent, sender, edited_at, child) WHERE edited_at IS NOT NULL;
-- What counts in a thread, with all that is asked of it to be counted.
CREATE INDEX relation_in_thread ON relation (room, parent, ord, sender, visibility, rel_type, kind)
    WHERE rel_type = 'm.thread' AND kind <> 'm.room.redaction';
