-- Tables of small rows with a key of several columns: in SQLite the key is the table, instead of an index beside it that every
-- row is written to as well (a seventh of what a message takes on disk was a transaction id's).

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
SQLITE:    SELECT user_no, device, path, txn_id, event, ts FROM client_transaction;
SQLITE:DROP TABLE client_transaction;
SQLITE:ALTER TABLE client_transaction_by_key RENAME TO client_transaction;

SQLITE:CREATE TABLE event_auth_by_key (
SQLITE:    event BIGINT NOT NULL,
SQLITE:    auth BIGINT NOT NULL,
SQLITE:    PRIMARY KEY (event, auth)
SQLITE:) WITHOUT ROWID;
SQLITE:INSERT INTO event_auth_by_key (event, auth)
SQLITE:    SELECT event, auth FROM event_auth;
SQLITE:DROP TABLE event_auth;
SQLITE:ALTER TABLE event_auth_by_key RENAME TO event_auth;
SQLITE:CREATE INDEX event_auth_children ON event_auth (auth, event);

SQLITE:CREATE TABLE membership_by_key (
SQLITE:    user_no BIGINT NOT NULL,
SQLITE:    room BIGINT NOT NULL,
SQLITE:    membership BIGINT NOT NULL,
SQLITE:    event BIGINT,
SQLITE:    pos BIGINT NOT NULL,
SQLITE:    since BIGINT NOT NULL,
SQLITE:    forgotten BIGINT NOT NULL,
SQLITE:    PRIMARY KEY (user_no, room)
SQLITE:) WITHOUT ROWID;
SQLITE:INSERT INTO membership_by_key (user_no, room, membership, event, pos, since, forgotten)
SQLITE:    SELECT user_no, room, membership, event, pos, since, forgotten FROM membership;
SQLITE:DROP TABLE membership;
SQLITE:ALTER TABLE membership_by_key RENAME TO membership;
SQLITE:CREATE INDEX membership_room ON membership (room, membership, user_no);
SQLITE:CREATE INDEX membership_since ON membership (room, membership, since, event);

SQLITE:CREATE TABLE current_state_by_key (
SQLITE:    room BIGINT NOT NULL,
SQLITE:    state_key BIGINT NOT NULL,
SQLITE:    event BIGINT NOT NULL,
SQLITE:    pos BIGINT NOT NULL,
SQLITE:    member BIGINT NOT NULL DEFAULT 0,
SQLITE:    PRIMARY KEY (room, state_key)
SQLITE:) WITHOUT ROWID;
SQLITE:INSERT INTO current_state_by_key (room, state_key, event, pos, member)
SQLITE:    SELECT room, state_key, event, pos, member FROM current_state;
SQLITE:DROP TABLE current_state;
SQLITE:ALTER TABLE current_state_by_key RENAME TO current_state;
SQLITE:CREATE INDEX current_state_plain ON current_state (room) WHERE member = 0;

SQLITE:CREATE TABLE room_server_by_key (
SQLITE:    room BIGINT NOT NULL,
SQLITE:    server BIGINT NOT NULL,
SQLITE:    joined BIGINT NOT NULL,
SQLITE:    since BIGINT NOT NULL DEFAULT 0,
SQLITE:    PRIMARY KEY (room, server)
SQLITE:) WITHOUT ROWID;
SQLITE:INSERT INTO room_server_by_key (room, server, joined, since)
SQLITE:    SELECT room, server, joined, since FROM room_server;
SQLITE:DROP TABLE room_server;
SQLITE:ALTER TABLE room_server_by_key RENAME TO room_server;
SQLITE:CREATE INDEX room_server_server ON room_server (server);

SQLITE:CREATE TABLE unread_by_key (
SQLITE:    room BIGINT NOT NULL,
SQLITE:    user_no BIGINT NOT NULL,
SQLITE:    upto BIGINT NOT NULL,
SQLITE:    since BIGINT NOT NULL,
SQLITE:    rules BIGINT NOT NULL,
SQLITE:    tally TEXT NOT NULL,
SQLITE:    PRIMARY KEY (room, user_no)
SQLITE:) WITHOUT ROWID;
SQLITE:INSERT INTO unread_by_key (room, user_no, upto, since, rules, tally)
SQLITE:    SELECT room, user_no, upto, since, rules, tally FROM unread;
SQLITE:DROP TABLE unread;
SQLITE:ALTER TABLE unread_by_key RENAME TO unread;

SQLITE:CREATE TABLE inbound_txn_by_key (
SQLITE:    origin TEXT NOT NULL,
SQLITE:    txn_id TEXT NOT NULL,
SQLITE:    response TEXT NOT NULL,
SQLITE:    received_ts BIGINT NOT NULL,
SQLITE:    PRIMARY KEY (origin, txn_id)
SQLITE:) WITHOUT ROWID;
SQLITE:INSERT INTO inbound_txn_by_key (origin, txn_id, response, received_ts)
SQLITE:    SELECT origin, txn_id, response, received_ts FROM inbound_txn;
SQLITE:DROP TABLE inbound_txn;
SQLITE:ALTER TABLE inbound_txn_by_key RENAME TO inbound_txn;
SQLITE:CREATE INDEX inbound_txn_received ON inbound_txn (received_ts);
