-- What the operator has set of a user's limits: `kind` as the configuration calls it, `millionths` of an action per second, and
-- actions at once. One that is usual again keeps its row, with `is_set` 0, so that everybody hears of it.
CREATE TABLE user_limit (
    user_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    millionths BIGINT NOT NULL,
    burst BIGINT NOT NULL,
    is_set BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    PRIMARY KEY (user_id, kind)
);
CREATE UNIQUE INDEX user_limit_pos ON user_limit (pos);
