-- Messages to devices (storage/src/facts/to_device/): a row per message and receiving device of ours, deleted when the
-- device says that it has them. `received_ms`: when it came, ms.
CREATE TABLE to_device (
    user_no BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    pos BIGINT NOT NULL,
    sender TEXT NOT NULL,
    kind TEXT NOT NULL,
    content TEXT NOT NULL,
    received_ms BIGINT NOT NULL,
    PRIMARY KEY (user_no, device_id, pos)
);
CREATE UNIQUE INDEX to_device_pos ON to_device (pos);

-- What other servers are to get of them: EDUs as JSON text, deleted when they have arrived.
CREATE TABLE to_device_out (
    pos ROW_ID PRIMARY KEY,
    server TEXT NOT NULL,
    edu TEXT NOT NULL,
    queued_ms BIGINT NOT NULL
);
CREATE INDEX to_device_out_server ON to_device_out (server, pos);

-- Clients' transactions that were done, so that a repetition does nothing.
CREATE TABLE to_device_txn (
    user_no BIGINT NOT NULL,
    device TEXT NOT NULL,
    path TEXT NOT NULL,
    txn_id TEXT NOT NULL,
    done_ms BIGINT NOT NULL,
    PRIMARY KEY (user_no, device, path, txn_id)
);
CREATE INDEX to_device_txn_done ON to_device_txn (done_ms);

-- Messages of other servers that were taken, by the id that the server has given them.
CREATE TABLE to_device_seen (
    origin TEXT NOT NULL,
    message_id TEXT NOT NULL,
    seen_ms BIGINT NOT NULL,
    PRIMARY KEY (origin, message_id)
);
CREATE INDEX to_device_seen_ms ON to_device_seen (seen_ms);
