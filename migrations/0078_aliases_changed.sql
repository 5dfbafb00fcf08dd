-- A room's aliases aren't what they were. The rows only tell who has looked at them.
CREATE TABLE aliases_changed (
    room ROW_ID PRIMARY KEY,
    pos BIGINT NOT NULL
);
CREATE UNIQUE INDEX aliases_changed_pos ON aliases_changed (pos);
