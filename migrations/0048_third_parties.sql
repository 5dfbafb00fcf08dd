-- Third-party identifiers of accounts, and how it is found out whose they are (client-server API, "Adding Account
-- Administrative Contact Information"; storage/src/facts/third_party.rs, storage/src/accounts/validation.rs).

-- `medium`: email or msisdn. `address`: in its canonical form. Nobody else has it. Times in ms since 1970.
CREATE TABLE third_party (
    medium TEXT NOT NULL,
    address TEXT NOT NULL,
    user_no BIGINT NOT NULL,
    added_ms BIGINT NOT NULL,
    validated_ms BIGINT NOT NULL,
    PRIMARY KEY (medium, address)
);
CREATE INDEX third_party_user ON third_party (user_no);

-- `purpose`: for what alone the session is good. `secret`: hash of the client's secret; `code`: hash of what was sent to the
-- address. `tries`: how many codes were tried since that was sent. `validated_ms`: NULL until the right one was.
CREATE TABLE validation (
    sid TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,
    medium TEXT NOT NULL,
    address TEXT NOT NULL,
    secret TEXT NOT NULL,
    code TEXT NOT NULL,
    send_attempt BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    next_link TEXT,
    created_ms BIGINT NOT NULL,
    validated_ms BIGINT,
    expires_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX validation_of ON validation (purpose, medium, address, secret);
CREATE INDEX validation_expires ON validation (expires_ms);

-- At which identity servers an identifier was bound to a user through this server.
CREATE TABLE third_party_bound (
    user_no BIGINT NOT NULL,
    medium TEXT NOT NULL,
    address TEXT NOT NULL,
    id_server TEXT NOT NULL,
    PRIMARY KEY (user_no, medium, address, id_server)
);
