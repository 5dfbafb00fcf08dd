-- What an operator wants done about a server that we send to: `forgets` 0 it is tried again at once, 1 what waits for it is let
-- go. The rows only tell the process that sends.
CREATE TABLE directive (
    server TEXT NOT NULL,
    forgets BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    PRIMARY KEY (server, forgets)
);
CREATE UNIQUE INDEX directive_pos ON directive (pos);

-- For operators to see: since when a server has failed (0: it hasn't), why it failed last, and when it was reached last.
ALTER TABLE destination_state ADD COLUMN failing_since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE destination_state ADD COLUMN reached_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE destination_state ADD COLUMN failure TEXT NOT NULL DEFAULT '';
