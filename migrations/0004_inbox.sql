-- What other servers sent.

-- Transactions that were done, with the answers they got: a repetition gets the same again.
CREATE TABLE inbound_txn (
    origin TEXT NOT NULL,
    txn_id TEXT NOT NULL,
    response TEXT NOT NULL,
    received_ts BIGINT NOT NULL,
    PRIMARY KEY (origin, txn_id)
);
CREATE INDEX inbound_txn_received ON inbound_txn (received_ts);

-- Events that passed the checks on form, signatures and hash, but can't be decided yet.
-- A row is claimed by moving due_ts into the future; if the claimer dies, it comes due again.
CREATE TABLE inbox (
    event_id TEXT NOT NULL,
    origin TEXT NOT NULL,
    room_id TEXT NOT NULL,
    room_version TEXT NOT NULL,
    event TEXT NOT NULL,
    received_ts BIGINT NOT NULL,
    -- The place within what arrived at that time.
    place BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    due_ts BIGINT NOT NULL,
    PRIMARY KEY (event_id, origin)
);
CREATE INDEX inbox_room ON inbox (room_id, received_ts, place);
CREATE INDEX inbox_due ON inbox (due_ts);
CREATE INDEX inbox_origin ON inbox (origin);
