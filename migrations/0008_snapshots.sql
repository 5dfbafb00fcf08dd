-- Finding snapshots that nothing refers to, and reading a room's events that have no place in its history.

-- Snapshots that nothing referred to when the collector looked, and since when (ms).
-- A commit that refers to one of them takes all of its room's off the list (storage/src/collect.rs).
CREATE TABLE snapshot_candidate (
    no ROW_ID PRIMARY KEY,
    room BIGINT NOT NULL,
    since BIGINT NOT NULL
);
CREATE INDEX snapshot_candidate_room ON snapshot_candidate (room, since);

CREATE INDEX state_snapshot_room ON state_snapshot (room, no);

-- Outliers, rejected and soft-failed events: what event_history doesn't have.
CREATE INDEX event_outside ON event (room, depth, no) WHERE ord IS NULL;
