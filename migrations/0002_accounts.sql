-- Accounts of this server and what belongs to them. Secrets are here as hashes only.

-- `password_hash`: a PHC string; NULL: no password opens it. `admin`, `deactivated`: 0 or 1.
CREATE TABLE account (
    user_no ROW_ID PRIMARY KEY,
    password_hash TEXT,
    admin BIGINT NOT NULL,
    deactivated BIGINT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE TABLE device (
    user_no BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    name TEXT,
    last_seen_ip TEXT,
    last_seen_ms BIGINT NOT NULL,
    PRIMARY KEY (user_no, device_id)
);

-- `hash`: SHA-256 of the token. `refresh_hash`: the refresh token that was given out with it.
CREATE TABLE access_token (
    hash TEXT PRIMARY KEY,
    user_no BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    expires_ms BIGINT,
    refresh_hash TEXT
);
CREATE INDEX access_token_device ON access_token (user_no, device_id);
CREATE INDEX access_token_refresh ON access_token (refresh_hash) WHERE refresh_hash IS NOT NULL;

-- `replaces`: the refresh token that this one was given out for. That one stays good until this one,
-- or its access token, is used; then `replaces` becomes NULL.
CREATE TABLE refresh_token (
    hash TEXT PRIMARY KEY,
    user_no BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    replaces TEXT
);
CREATE INDEX refresh_token_device ON refresh_token (user_no, device_id);
CREATE INDEX refresh_token_replaces ON refresh_token (replaces) WHERE replaces IS NOT NULL;

-- `fields`: a JSON object.
CREATE TABLE profile (
    user_no ROW_ID PRIMARY KEY,
    fields TEXT NOT NULL
);

-- Sessions of user-interactive authentication, and nonces: `purpose` says what it was begun for.
CREATE TABLE uia_session (
    id TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX uia_session_expires ON uia_session (expires_ms);
