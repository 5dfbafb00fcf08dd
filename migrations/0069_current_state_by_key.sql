-- As 0066, another table.

SQLITE:CREATE TABLE current_state_by_key (
SQLITE:    room BIGINT NOT NULL,
SQLITE:    state_key BIGINT NOT NULL,
SQLITE:    event BIGINT NOT NULL,
SQLITE:    pos BIGINT NOT NULL,
SQLITE:    member BIGINT NOT NULL DEFAULT 0,
SQLITE:    PRIMARY KEY (room, state_key)
SQLITE:) WITHOUT ROWID;
SQLITE:INSERT INTO current_state_by_key (room, state_key, event, pos, member)
SQLITE:    SELECT room, state_key, event, pos, member FROM current_state ORDER BY room, state_key;
SQLITE:DROP TABLE current_state;
SQLITE:ALTER TABLE current_state_by_key RENAME TO current_state;
SQLITE:CREATE INDEX current_state_plain ON current_state (room) WHERE member = 0;
