-- The core: interned names, rooms, events, state, the log, and what the sender of events reads.
-- Text from strangers (ids, names, types, keys) is stored escaped: storage/src/dialect.rs.

-- Facts about the database as a whole: `epoch`, `schema`, `oldest_binary`.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- One row. `pos`: the last position given out. `back`: the lowest order of backfilled events.
-- Its row lock is what makes commit order position order.
CREATE TABLE counter (
    id BIGINT PRIMARY KEY,
    pos BIGINT NOT NULL,
    back BIGINT NOT NULL
);
INSERT INTO counter (id, pos, back) VALUES (1, 0, 0);

-- Blocks of row numbers that processes have leased: `next` is the first free one.
CREATE TABLE lease_block (
    name TEXT PRIMARY KEY,
    next BIGINT NOT NULL
);

-- Interned names.
CREATE TABLE server_name (
    no ROW_ID PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE user_name (
    no ROW_ID PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    server BIGINT NOT NULL
);
CREATE TABLE state_key (
    no ROW_ID PRIMARY KEY,
    kind TEXT NOT NULL,
    state_key TEXT NOT NULL,
    UNIQUE (kind, state_key)
);

-- Rooms. `version` is NULL while we have merely heard of the room.
-- `extremities`: a JSON array of [event number, event id, depth].
-- `joined`, `invited`: how many members. `public`: listed in our directory.
CREATE TABLE room (
    no ROW_ID PRIMARY KEY,
    room_id TEXT NOT NULL UNIQUE,
    version TEXT,
    state_version BIGINT NOT NULL,
    snapshot BIGINT,
    extremities TEXT NOT NULL,
    joined BIGINT NOT NULL,
    invited BIGINT NOT NULL,
    public BIGINT NOT NULL,
    last_pos BIGINT NOT NULL
);
CREATE INDEX room_public ON room (no) WHERE public = 1;

CREATE TABLE room_alias (
    alias TEXT PRIMARY KEY,
    room BIGINT NOT NULL,
    creator BIGINT NOT NULL
);
CREATE INDEX room_alias_room ON room_alias (room);

-- Events. `ord`: place in the history: the log position if live, negative if backfilled, NULL if none.
-- `status`: 0 accepted, 1 soft-failed, 2 rejected. `placement`: 0 live, 1 backfilled, 2 outlier.
-- `visibility`: 0 world_readable, 1 shared, 2 invited, 3 joined. `txn`: JSON [device, transaction id].
CREATE TABLE event (
    no ROW_ID PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    room BIGINT NOT NULL,
    ord BIGINT,
    depth BIGINT NOT NULL,
    status BIGINT NOT NULL,
    placement BIGINT NOT NULL,
    state_before BIGINT,
    state_after BIGINT,
    visibility BIGINT,
    redacted_by BIGINT,
    reason TEXT,
    txn TEXT,
    json TEXT NOT NULL
);
CREATE UNIQUE INDEX event_ord ON event (ord) WHERE ord IS NOT NULL;
CREATE INDEX event_room_ord ON event (room, ord) WHERE ord IS NOT NULL;
CREATE INDEX event_history ON event (room, depth, ord) WHERE ord IS NOT NULL;

-- auth_events of state events, by number; and those whose target isn't stored yet.
CREATE TABLE event_auth (
    event BIGINT NOT NULL,
    auth BIGINT NOT NULL,
    PRIMARY KEY (event, auth)
);
CREATE TABLE missing_auth (
    auth_id TEXT NOT NULL,
    event BIGINT NOT NULL,
    PRIMARY KEY (auth_id, event)
);

-- prev_events that we don't have: the room's backward extremities.
CREATE TABLE missing_prev (
    missing TEXT NOT NULL,
    event BIGINT NOT NULL,
    room BIGINT NOT NULL,
    PRIMARY KEY (missing, event)
);
CREATE INDEX missing_prev_room ON missing_prev (room);

-- Accepted redactions of events that we don't have yet.
CREATE TABLE pending_redaction (
    target TEXT NOT NULL,
    redaction BIGINT NOT NULL,
    room BIGINT NOT NULL,
    only_from TEXT,
    PRIMARY KEY (target, redaction)
);

-- Which event a client's transaction has made.
CREATE TABLE client_transaction (
    user_no BIGINT NOT NULL,
    device TEXT NOT NULL,
    path TEXT NOT NULL,
    txn_id TEXT NOT NULL,
    event BIGINT NOT NULL,
    ts BIGINT NOT NULL,
    PRIMARY KEY (user_no, device, path, txn_id)
);

-- Immutable snapshots of state: each body holds the nodes that it doesn't share (storage/src/snapshot.rs).
CREATE TABLE state_snapshot (
    no ROW_ID PRIMARY KEY,
    room BIGINT NOT NULL,
    parent BIGINT,
    body BYTES NOT NULL
);

-- The current snapshot once more, for questions about sets.
CREATE TABLE current_state (
    room BIGINT NOT NULL,
    state_key BIGINT NOT NULL,
    event BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    PRIMARY KEY (room, state_key)
);

-- Changes of current state. `member`, `membership`: whose membership it is and became, if it is one.
CREATE TABLE state_change (
    pos ROW_ID PRIMARY KEY,
    room BIGINT NOT NULL,
    state_key BIGINT NOT NULL,
    old_event BIGINT,
    new_event BIGINT,
    member BIGINT,
    membership BIGINT
);
CREATE INDEX state_change_room ON state_change (room, pos);

-- Current memberships: 1 join, 2 invite, 3 leave, 4 ban, 5 knock. `pos`: last change of the event;
-- `since`: last change of the membership. `event` is NULL for an invite to a room that we aren't in.
CREATE TABLE membership (
    user_no BIGINT NOT NULL,
    room BIGINT NOT NULL,
    membership BIGINT NOT NULL,
    event BIGINT,
    pos BIGINT NOT NULL,
    since BIGINT NOT NULL,
    forgotten BIGINT NOT NULL,
    PRIMARY KEY (user_no, room)
);
CREATE INDEX membership_room ON membership (room, membership, user_no);

-- How many users of each server are joined.
CREATE TABLE room_server (
    room BIGINT NOT NULL,
    server BIGINT NOT NULL,
    joined BIGINT NOT NULL,
    PRIMARY KEY (room, server)
);
CREATE INDEX room_server_server ON room_server (server);

-- Invites to rooms that we aren't in.
CREATE TABLE invite (
    user_no BIGINT NOT NULL,
    room BIGINT NOT NULL,
    sender BIGINT NOT NULL,
    version TEXT NOT NULL,
    event TEXT NOT NULL,
    stripped_state TEXT NOT NULL,
    gone BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    PRIMARY KEY (user_no, room)
);
CREATE UNIQUE INDEX invite_pos ON invite (pos);

-- Facts that move: one row per key, at its last position.
CREATE TABLE receipt (
    room BIGINT NOT NULL,
    user_no BIGINT NOT NULL,
    kind TEXT NOT NULL,
    thread TEXT NOT NULL,
    event_id TEXT NOT NULL,
    ts BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    PRIMARY KEY (room, user_no, kind, thread)
);
CREATE UNIQUE INDEX receipt_pos ON receipt (pos);
CREATE INDEX receipt_room ON receipt (room, pos);

CREATE TABLE account_data (
    user_no BIGINT NOT NULL,
    room BIGINT NOT NULL,
    kind TEXT NOT NULL,
    content TEXT NOT NULL,
    pos BIGINT NOT NULL,
    PRIMARY KEY (user_no, room, kind)
);
CREATE UNIQUE INDEX account_data_pos ON account_data (pos);
CREATE INDEX account_data_user ON account_data (user_no, pos);

CREATE TABLE device_list (
    user_no ROW_ID PRIMARY KEY,
    pos BIGINT NOT NULL
);
CREATE UNIQUE INDEX device_list_pos ON device_list (pos);

CREATE TABLE revocation (
    pos ROW_ID PRIMARY KEY,
    user_no BIGINT NOT NULL,
    device TEXT
);

-- What must be sent. A destination set is a JSON array of server numbers, ascending; `digest` its hash.
CREATE TABLE destination_set (
    no ROW_ID PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    servers TEXT NOT NULL
);
CREATE TABLE outbound (
    pos ROW_ID PRIMARY KEY,
    room BIGINT NOT NULL,
    event BIGINT NOT NULL,
    set_no BIGINT NOT NULL
);
CREATE INDEX outbound_room ON outbound (room, pos);
-- The last position in each room that the destination must get.
CREATE TABLE destination_room (
    server BIGINT NOT NULL,
    room BIGINT NOT NULL,
    last_pos BIGINT NOT NULL,
    PRIMARY KEY (server, room)
);
CREATE INDEX destination_room_pos ON destination_room (server, last_pos);
