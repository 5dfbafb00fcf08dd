-- Tokens by which administrators act as a user: they belong to no device, and nobody sees them. `hash`: SHA-256 of the token.
-- `by_user`: the administrator, with whose rights it goes. `expires_ms`: NULL: never by itself.
CREATE TABLE login_as (
    hash TEXT PRIMARY KEY,
    user_no BIGINT NOT NULL,
    by_user BIGINT NOT NULL,
    made_ms BIGINT NOT NULL,
    expires_ms BIGINT
);
CREATE INDEX login_as_by ON login_as (by_user, made_ms);
CREATE INDEX login_as_expires ON login_as (expires_ms) WHERE expires_ms IS NOT NULL;
