-- Events that users have sent for later (MSC4140; storage/src/facts/delayed/).

-- `digest`: SHA-256 of `delay_id`, by which it is looked up. `txn`: that of the client's transaction. `kind`, `state_key`,
-- `content`, `sticky_ms`: what is to be sent. `scheduled_ms`: since when it waits for `delay_ms`; `due_ms`: until when, NULL once
-- it is over. `finalised_ms`: since when it is, with `event_id` if it was sent and `error` if it couldn't be. Times in ms since
-- 1970. `pos`: of the last change.
CREATE TABLE delayed_event (
    digest TEXT PRIMARY KEY,
    delay_id TEXT NOT NULL,
    user_no BIGINT NOT NULL,
    txn TEXT,
    room_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    state_key TEXT,
    content TEXT NOT NULL,
    sticky_ms BIGINT,
    delay_ms BIGINT NOT NULL,
    scheduled_ms BIGINT NOT NULL,
    due_ms BIGINT,
    finalised_ms BIGINT,
    event_id TEXT,
    error TEXT,
    pos BIGINT NOT NULL
);
CREATE UNIQUE INDEX delayed_event_pos ON delayed_event (pos);
CREATE UNIQUE INDEX delayed_event_txn ON delayed_event (user_no, txn);
CREATE INDEX delayed_event_due ON delayed_event (due_ms, user_no);
CREATE INDEX delayed_event_user ON delayed_event (user_no, due_ms);
CREATE INDEX delayed_event_over ON delayed_event (user_no, finalised_ms);
CREATE INDEX delayed_event_finalised ON delayed_event (finalised_ms);
