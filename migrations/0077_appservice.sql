-- Application services that are told what happens, one row each: what stands in the log up to `pos` they have, or it doesn't
-- concern them; `txn` is the number of the last transaction that was made; `epoch` the database's life in which it counts.
-- How often the last one failed, since when, why, and when it is tried again (0: it hasn't failed); when one was acknowledged
-- last, and when the service was registered last, in milliseconds since 1970.
CREATE TABLE appservice (
    id TEXT PRIMARY KEY,
    pos BIGINT NOT NULL,
    txn BIGINT NOT NULL,
    epoch TEXT NOT NULL,
    failures BIGINT NOT NULL,
    failing_since_ms BIGINT NOT NULL,
    next_ms BIGINT NOT NULL,
    error TEXT NOT NULL,
    acknowledged_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL
);
CREATE INDEX appservice_seen ON appservice (seen_ms);

-- The transaction that a service hasn't acknowledged yet, as it is sent, however often. When it is acknowledged, the service has
-- the log up to `upto`, and the messages to devices at these positions go (`taken`, a JSON array).
CREATE TABLE appservice_txn (
    id TEXT PRIMARY KEY,
    txn BIGINT NOT NULL,
    upto BIGINT NOT NULL,
    content TEXT NOT NULL,
    taken TEXT NOT NULL,
    made_ms BIGINT NOT NULL
);

-- Whether the operator wants a service to be told nothing for a while.
CREATE TABLE appservice_pause (
    id TEXT PRIMARY KEY,
    paused BIGINT NOT NULL,
    pos BIGINT NOT NULL
);
CREATE UNIQUE INDEX appservice_pause_pos ON appservice_pause (pos);
