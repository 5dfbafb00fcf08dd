-- Registration and user-interactive authentication in several stages.

-- `peer`: the address, or block of addresses, that began it: nobody has more than so many. `completed`: a JSON list of
-- the stages that are done, in that order, each with what it proved.
ALTER TABLE uia_session ADD COLUMN peer TEXT NOT NULL DEFAULT '';
ALTER TABLE uia_session ADD COLUMN completed TEXT NOT NULL DEFAULT '[]';
CREATE INDEX uia_session_peer ON uia_session (peer, expires_ms);

-- What the operator gives to who may register. `hash`: SHA-256 of the token, by which it is looked up; the token is there
-- as well, as the operator lists them. `uses_allowed`: NULL for any number. `completed`: accounts that were made with it.
CREATE TABLE registration_token (
    hash TEXT PRIMARY KEY,
    token TEXT NOT NULL,
    uses_allowed BIGINT,
    completed BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT
);

-- Registrations under way that have one of its uses, by their sessions.
CREATE TABLE registration_token_pending (
    session TEXT PRIMARY KEY,
    hash TEXT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX registration_token_pending_hash ON registration_token_pending (hash);
CREATE INDEX registration_token_pending_expires ON registration_token_pending (expires_ms);

-- Accounts into which nobody may log in until the operator has approved them (MSC3866).
CREATE TABLE awaiting_approval (
    user_no ROW_ID PRIMARY KEY,
    since_ms BIGINT NOT NULL
);

-- Which policies users have accepted, in which version.
CREATE TABLE accepted_terms (
    user_no BIGINT NOT NULL,
    policy TEXT NOT NULL,
    version TEXT NOT NULL,
    accepted_ms BIGINT NOT NULL,
    PRIMARY KEY (user_no, policy)
);
