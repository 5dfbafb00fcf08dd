-- What users show to other services to prove who they are (client-server API, "OpenID"): it lives an hour, and as long
-- as the session that asked for it. `hash`: SHA-256 of the token.
CREATE TABLE openid_token (
    hash TEXT PRIMARY KEY,
    user_no BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX openid_token_device ON openid_token (user_no, device_id);
CREATE INDEX openid_token_expires ON openid_token (expires_ms);
