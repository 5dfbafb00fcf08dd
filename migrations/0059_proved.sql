-- When who uses a device has proved on it whose it is, since its session began; NULL: never, or the password was changed since.
ALTER TABLE device ADD COLUMN proved_ms BIGINT;
