-- What other servers have sent, and what became of it: for the operator to see. Each process adds what it has counted, now and
-- then. Counts are since `since_ms`; times are milliseconds since 1970. `work_us`: for how long this server worked for it, in
-- microseconds. `reasons`: the last few of what was refused and why, as JSON [[when, why], …].
CREATE TABLE inbound_seen (
    server TEXT PRIMARY KEY,
    since_ms BIGINT NOT NULL,
    last_seen_ms BIGINT NOT NULL,
    quarantined_until_ms BIGINT NOT NULL,
    reasons TEXT NOT NULL,
    requests BIGINT NOT NULL,
    limited BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    work_us BIGINT NOT NULL,
    transactions BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    known BIGINT NOT NULL,
    waiting BIGINT NOT NULL,
    soft_failed BIGINT NOT NULL,
    rejected BIGINT NOT NULL,
    refused BIGINT NOT NULL,
    unverified BIGINT NOT NULL,
    equivocations BIGINT NOT NULL,
    quarantines BIGINT NOT NULL,
    typing BIGINT NOT NULL,
    presence BIGINT NOT NULL,
    receipts BIGINT NOT NULL,
    to_device BIGINT NOT NULL,
    devices BIGINT NOT NULL,
    other_edus BIGINT NOT NULL
);
CREATE INDEX inbound_seen_last ON inbound_seen (last_seen_ms);
