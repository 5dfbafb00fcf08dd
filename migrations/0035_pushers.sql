-- Who is told of notifications, and how (client-server API, "Push Notifications").

-- A pusher. `device_id`: the session that has set it, with which it goes. `data`: the client's, as JSON. `set_ms`: when
-- it was set; `ack`: by which a new one has to say that it is there, until `ack_until_ms`: before that it is told nothing. `failing_ms`: since when nothing can be told it. `badge`: the number that it was told last.
CREATE TABLE pusher (
    user_no BIGINT NOT NULL,
    app_id TEXT NOT NULL,
    pushkey TEXT NOT NULL,
    device_id TEXT,
    kind TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    app_name TEXT NOT NULL,
    device_name TEXT NOT NULL,
    profile_tag TEXT,
    lang TEXT NOT NULL,
    data TEXT NOT NULL,
    set_ms BIGINT NOT NULL,
    ack TEXT,
    ack_until_ms BIGINT,
    failing_ms BIGINT,
    badge BIGINT,
    pos BIGINT NOT NULL,
    PRIMARY KEY (user_no, app_id, pushkey)
);
CREATE UNIQUE INDEX pusher_pos ON pusher (pos);
CREATE INDEX pusher_key ON pusher (app_id, pushkey);

-- What waits to be told a pusher. `event`: the event; 0: an invite to a room that this server isn't in; -1: that it has to
-- say that it is there; none where only the number of what is unread has changed.
-- `since_ms`: since when it waits.
CREATE TABLE push (
    user_no BIGINT NOT NULL,
    app_id TEXT NOT NULL,
    pushkey TEXT NOT NULL,
    pos BIGINT NOT NULL,
    room BIGINT NOT NULL,
    event BIGINT,
    highlight BIGINT NOT NULL,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (user_no, app_id, pushkey, pos)
);
