-- What a field was before, of late, as a JSON list: a room that somebody was about to join while it changed may know it so.
ALTER TABLE profile_spread ADD COLUMN earlier TEXT;

-- Rooms that couldn't be told of a user's profile, and are to be told of what has changed after `since`, at `due_ms`
-- (milliseconds since 1970) or later.
CREATE TABLE profile_untold (
    user_no BIGINT NOT NULL,
    room BIGINT NOT NULL,
    since BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    PRIMARY KEY (user_no, room)
);
CREATE INDEX profile_untold_due ON profile_untold (due_ms);
