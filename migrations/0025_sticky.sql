-- Events that are sticky (MSC4354): for that long everybody in the room gets them.

-- `sender`: who sent it. `expires_ms`: until when it is sticky, milliseconds since 1970. `allowed`: 1 unless the room's
-- current state has something against it. `pos`: since when that is known.
CREATE TABLE sticky (
    event ROW_ID PRIMARY KEY,
    room BIGINT NOT NULL,
    sender BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    allowed BIGINT NOT NULL,
    pos BIGINT NOT NULL
);
CREATE UNIQUE INDEX sticky_pos ON sticky (pos);
CREATE INDEX sticky_room ON sticky (room, pos);
CREATE INDEX sticky_expires ON sticky (expires_ms);
