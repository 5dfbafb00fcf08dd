-- Keys for end-to-end encryption.

-- What devices have signed of themselves, as JSON without `unsigned`: of users here and of other servers.
-- `display_name`: of others' devices; those of ours have theirs in `device`.
CREATE TABLE device_keys (
    user_no BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    keys TEXT NOT NULL,
    display_name TEXT,
    PRIMARY KEY (user_no, device_id)
);

-- `seq`: the order in which a device has uploaded its keys. `claimed`: 0, or the number of the claim that got
-- it. A key that was given out is remembered until the device brings new ones, so that it isn't given again
-- when an upload is repeated whose answer was lost.
CREATE TABLE one_time_key (
    user_no BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    claimed BIGINT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (user_no, device_id, algorithm, key_id)
);
CREATE INDEX one_time_key_next ON one_time_key (user_no, device_id, algorithm, seq) WHERE claimed = 0;

-- `used`: 0 or 1.
CREATE TABLE fallback_key (
    user_no BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id TEXT NOT NULL,
    used BIGINT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (user_no, device_id, algorithm)
);

-- What processes tell each other: how many keys a device has was changed last at `pos`.
CREATE TABLE key_count (
    user_no BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    pos BIGINT NOT NULL,
    PRIMARY KEY (user_no, device_id)
);
CREATE UNIQUE INDEX key_count_pos ON key_count (pos);

-- Cross-signing keys of users here and of other servers. `usage`: master, self_signing, user_signing. `key`: JSON
-- without `unsigned`.
CREATE TABLE cross_signing_key (
    user_no BIGINT NOT NULL,
    usage TEXT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (user_no, usage)
);

-- Signatures that were added to a key later. `target_id`: a device's id, or a cross-signing key's public key.
-- `signer_key`: the key's id, as in `signatures`.
CREATE TABLE key_signature (
    target_user BIGINT NOT NULL,
    target_id TEXT NOT NULL,
    signer BIGINT NOT NULL,
    signer_key TEXT NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (target_user, target_id, signer, signer_key)
);
CREATE INDEX key_signature_signer ON key_signature (signer, signer_key);

-- What processes tell each other: `signer` has signed a key of another user.
CREATE TABLE user_signed (
    signer BIGINT NOT NULL,
    user_no BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    PRIMARY KEY (signer, user_no)
);
CREATE UNIQUE INDEX user_signed_pos ON user_signed (pos);
