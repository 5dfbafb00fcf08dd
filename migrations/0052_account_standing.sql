-- What operators make of accounts (client-server API, "Account moderation"): flags. A locked one can only log out, a
-- suspended one only read.
ALTER TABLE account ADD COLUMN locked BIGINT NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN suspended BIGINT NOT NULL DEFAULT 0;

-- What all refresh tokens of a session have in common: by it one is known that was used before. Those from before this
-- column have none until they are used.
ALTER TABLE refresh_token ADD COLUMN session TEXT;
CREATE INDEX refresh_token_session ON refresh_token (session) WHERE session IS NOT NULL;

-- Tokens with which another device can log in once (`m.login.token`). `hash`: SHA-256 of the token.
CREATE TABLE login_token (
    hash TEXT PRIMARY KEY,
    user_no BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX login_token_user ON login_token (user_no);
CREATE INDEX login_token_expires ON login_token (expires_ms);
