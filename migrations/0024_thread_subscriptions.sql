-- Which threads users follow (MSC4306).

-- `thread`: the id of the thread's root. `subscribed`: 0: not any more; 1: yes. `automatic`: 1 if a client did it by
-- itself. `pos`: when that was last said; of one that ended it is also up to where a mention is no reason to begin anew.
CREATE TABLE thread_subscription (
    user_no BIGINT NOT NULL,
    room BIGINT NOT NULL,
    thread TEXT NOT NULL,
    subscribed BIGINT NOT NULL,
    automatic BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    PRIMARY KEY (user_no, room, thread)
);
CREATE UNIQUE INDEX thread_subscription_pos ON thread_subscription (pos);
CREATE INDEX thread_subscription_user ON thread_subscription (user_no, pos);
