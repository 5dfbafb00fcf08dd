-- What the rooms that a user is in are to be told of a field of their profile: the last of each. `value`: what it is now,
-- NULL: nothing. `was`: as JSON, what it was: then only those rooms are told that know it so; NULL: all are.
CREATE TABLE profile_spread (
    user_no BIGINT NOT NULL,
    field TEXT NOT NULL,
    value TEXT,
    was TEXT,
    pos BIGINT NOT NULL,
    PRIMARY KEY (user_no, field)
);
CREATE UNIQUE INDEX profile_spread_pos ON profile_spread (pos);
