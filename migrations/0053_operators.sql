-- Work that takes its time and goes on after a restart. `what`: whom or what it is about. `state`: 0 it waits or is under
-- way, 1 done, 2 failed (`error`), 3 cancelled. `progress`: how much is done; `place`: where it goes on, as its kind says.
CREATE TABLE task (
    no ROW_ID PRIMARY KEY,
    kind TEXT NOT NULL,
    what TEXT NOT NULL,
    state BIGINT NOT NULL,
    progress BIGINT NOT NULL,
    place TEXT NOT NULL,
    error TEXT,
    made_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL
);
CREATE INDEX task_open ON task (state, no);

-- What the operator keeps out: rooms, servers (`way`: in, out or both), names of users to be. One that is let in again
-- keeps its row, with `blocked` 0, so that everybody hears of it.
CREATE TABLE block (
    kind TEXT NOT NULL,
    what TEXT NOT NULL,
    way TEXT NOT NULL,
    reason TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    blocked BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    PRIMARY KEY (kind, what)
);
CREATE UNIQUE INDEX block_pos ON block (pos);

-- What became of a report: `state` 0 it waits, 1 somebody has taken it, 2 it is done with; by whom, and since when.
ALTER TABLE report ADD COLUMN state BIGINT NOT NULL DEFAULT 0;
ALTER TABLE report ADD COLUMN handled_by TEXT;
ALTER TABLE report ADD COLUMN handled_ms BIGINT;
