-- When a refresh token ends; NULL: never.
ALTER TABLE refresh_token ADD COLUMN expires_ms BIGINT;
