-- A server that was away while much was said gets the newest event of each room instead of everything, up to this position
-- (federation/src/sender/latest.rs). It is written down with how far the server is, so that it stays so over a restart.
ALTER TABLE destination_state ADD COLUMN newest_pos BIGINT NOT NULL DEFAULT 0;
