-- A table of small rows with a key of several columns: in SQLite the key is the table, instead of an index beside it that every
-- row is written to as well (a seventh of what a message takes on disk was a transaction id's). In the key's order, so that the
-- tree is filled from one end. Each such table has a migration of its own: one transaction needn't hold them all.

SQLITE:CREATE TABLE client_transaction_by_key (
SQLITE:    user_no BIGINT NOT NULL,
SQLITE:    device TEXT NOT NULL,
SQLITE:    path TEXT NOT NULL,
SQLITE:    txn_id TEXT NOT NULL,
SQLITE:    event BIGINT NOT NULL,
SQLITE:    ts BIGINT NOT NULL,
SQLITE:    PRIMARY KEY (user_no, device, path, txn_id)
SQLITE:) WITHOUT ROWID;
SQLITE:INSERT INTO client_transaction_by_key (user_no, device, path, txn_id, event, ts)
SQLITE:    SELECT user_no, device, path, txn_id, event, ts FROM client_transaction ORDER BY user_no, device, path, txn_id;
SQLITE:DROP TABLE client_transaction;
SQLITE:ALTER TABLE client_transaction_by_key RENAME TO client_transaction;
