-- Mails to pushers that get them (client-server API, "Push Notifications").

-- When a pusher got the last mail, and how many it got since its user last read something.
ALTER TABLE pusher ADD COLUMN mailed_ms BIGINT;
ALTER TABLE pusher ADD COLUMN mails BIGINT;
-- Nobody asks since when nothing can be told one: what waits knows since when it does.
ALTER TABLE pusher DROP COLUMN failing_ms;
