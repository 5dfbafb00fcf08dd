-- What users find improper, until the operator dismisses it (client-server API, "Reporting Content"). Of a room, of an
-- event with who sent it and what it says, or of a user.
CREATE TABLE report (
    no ROW_ID PRIMARY KEY,
    received_ms BIGINT NOT NULL,
    reporter BIGINT NOT NULL,
    room_id TEXT,
    event_id TEXT,
    user_id TEXT,
    event TEXT,
    reason TEXT NOT NULL
);
CREATE INDEX report_reporter ON report (reporter);
