-- Who is told that devices or keys of users have changed, and what is remembered of other servers' users.

-- When a user's devices changed last (the stream id that other servers are told), which one, and when the
-- cross-signing keys did. `pos` is the later of the two.
ALTER TABLE device_list ADD COLUMN device_pos BIGINT;
ALTER TABLE device_list ADD COLUMN device_id TEXT;
ALTER TABLE device_list ADD COLUMN keys_pos BIGINT;
UPDATE device_list SET keys_pos = pos;

-- Each change. `device_id`: NULL for cross-signing keys. `prev`: when a device of the user changed before this.
CREATE TABLE device_change (
    pos ROW_ID PRIMARY KEY,
    user_no BIGINT NOT NULL,
    device_id TEXT,
    prev BIGINT
);
INSERT INTO device_change (pos, user_no, device_id, prev) SELECT pos, user_no, NULL, NULL FROM device_list;

-- Since when a server has been in a room without a break; 0 of what was there before this was noted.
ALTER TABLE room_server ADD COLUMN since BIGINT NOT NULL DEFAULT 0;

-- Users of other servers whose devices are remembered (in `device_keys` and `cross_signing_key`). `stream_id`: up
-- to which of their server's updates; NULL if that isn't known. `learned`: a position before the list was asked
-- for; it counts as long as the user has shared a room with somebody here without a break since. `stale`: 1 if
-- there is something newer that we don't have; then it is asked for at `retry_at` (ms).
CREATE TABLE remote_devices (
    user_no ROW_ID PRIMARY KEY,
    stream_id BIGINT,
    learned BIGINT NOT NULL,
    stale BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    retry_at BIGINT NOT NULL
);
CREATE INDEX remote_devices_stale ON remote_devices (retry_at) WHERE stale = 1;
