-- Other servers: their signing keys, and how far we have got in sending to them.

-- Every key that a server has had. `valid_until`: until when it may be used, ms, for a key that was
-- in use when we last saw it; `expired`: since when it is out of use, ms. One of the two is set.
CREATE TABLE server_key (
    server TEXT NOT NULL,
    key_id TEXT NOT NULL,
    public TEXT NOT NULL,
    valid_until BIGINT,
    expired BIGINT,
    PRIMARY KEY (server, key_id)
);

-- The last answer of each server about its keys, as it signed it: what we pass on as a notary.
CREATE TABLE server_key_response (
    server TEXT PRIMARY KEY,
    response TEXT NOT NULL,
    valid_until BIGINT NOT NULL,
    fetched BIGINT NOT NULL
);

-- How far each destination has got, and when to try again if it failed. `failures`: in a row.
CREATE TABLE destination_state (
    server TEXT PRIMARY KEY,
    sent_pos BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    retry_at BIGINT NOT NULL
);

-- Which process sends. `until`: ms; whoever comes after that may take it over.
CREATE TABLE sender_lease (
    id BIGINT PRIMARY KEY,
    owner TEXT NOT NULL,
    until BIGINT NOT NULL
);
