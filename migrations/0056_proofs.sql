-- What proves something is bound to whose it is.

-- Whose account the address had when a code was asked for that serves for it: a new password. NULL where it is nobody's yet.
ALTER TABLE validation ADD COLUMN user_no BIGINT;
CREATE INDEX validation_user ON validation (user_no) WHERE user_no IS NOT NULL;

-- The device that asked for a login token: it goes with that. Tokens from before then, good for some minutes, are none.
ALTER TABLE login_token ADD COLUMN device_id TEXT;
