-- What names and describes each room that we are or were in, from its current state. Text of a stranger is escaped;
-- `allowed`: a JSON array of the rooms whose members a restricted join rule lets in. A room that has no row (it is from
-- before this table) gets one when somebody asks for it.
CREATE TABLE room_summary (
    room ROW_ID PRIMARY KEY,
    name TEXT,
    topic TEXT,
    avatar TEXT,
    alias TEXT,
    room_type TEXT,
    federate BIGINT NOT NULL,
    encryption TEXT,
    join_rule TEXT,
    allowed TEXT,
    history_visibility TEXT,
    guest_access TEXT,
    replacement TEXT
);

-- The position of the last event that counts as activity. Of rooms from before nobody knows which it was: the last
-- change of anything is close, and never later than what comes.
ALTER TABLE room ADD COLUMN bump BIGINT NOT NULL DEFAULT 0;
UPDATE room SET bump = last_pos;
