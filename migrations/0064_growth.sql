-- What tells how old rows are that grow with time alone (storage/src/collect/purge/, docs/growth.md).

-- Where the log stood when, in milliseconds since 1970: by it what has a position and no time is known to be old.
CREATE TABLE log_time (
    at_ms ROW_ID PRIMARY KEY,
    pos BIGINT NOT NULL
);

-- Since when no event is given this set any more, in milliseconds since 1970; NULL: it is in use. It goes a day later.
ALTER TABLE destination_set ADD COLUMN retired_ms BIGINT;

-- When the filter was used last, to within a day, in milliseconds since 1970; NULL: it is from before this column.
ALTER TABLE client_filter ADD COLUMN used_ms BIGINT;
CREATE INDEX client_filter_used ON client_filter (used_ms);
