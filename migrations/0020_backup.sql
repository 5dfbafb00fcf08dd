-- Backups of room keys that clients make (client-server, "Server-side key backups").

-- `version`: counted up for each user, never given out twice. `shelf`: under which number its sessions stand; NULL:
-- it is deleted, and its row only keeps the count, until there is one with a higher version. `etag`: raised with each
-- change of what it holds. `sessions`, `bytes`: how many sessions it holds, and of how many bytes.
CREATE TABLE backup (
    user_no BIGINT NOT NULL,
    version BIGINT NOT NULL,
    shelf BIGINT,
    algorithm TEXT NOT NULL,
    auth_data TEXT NOT NULL,
    etag BIGINT NOT NULL,
    sessions BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (user_no, version)
);

-- `session_data`: JSON as received. `former`: how many bytes of it there were before it was replaced; NULL: it never
-- was. (By that, who writes it learns what became of the row.)
CREATE TABLE backup_session (
    shelf BIGINT NOT NULL,
    room_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    first_message_index BIGINT NOT NULL,
    forwarded_count BIGINT NOT NULL,
    is_verified BIGINT NOT NULL,
    session_data TEXT NOT NULL,
    former BIGINT,
    PRIMARY KEY (shelf, room_id, session_id)
);

-- Shelves whose backup is deleted or has begun another: what stands on them goes bit by bit.
CREATE TABLE backup_gone (
    shelf ROW_ID PRIMARY KEY
);

-- The dehydrated device of a user (MSC3814), one of those in `device`, and what it takes to rehydrate it: JSON as
-- received.
CREATE TABLE dehydrated_device (
    user_no ROW_ID PRIMARY KEY,
    device_id TEXT NOT NULL,
    device_data TEXT NOT NULL
);
