-- When fields of users' profiles changed, told by sliding sync (MSC4262).

-- When a field of a profile changed last. `present`: 0 of one that was removed since; of these a user's newest stay.
CREATE TABLE profile_change (
    user_no BIGINT NOT NULL,
    field TEXT NOT NULL,
    present BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    PRIMARY KEY (user_no, field)
);
CREATE UNIQUE INDEX profile_change_pos ON profile_change (pos);

-- Whether the profiles of a room's members were told. `profiles`: a number of what was asked for; 0: they weren't.
-- `profiles_upto`: up to which member; 0: all were.
ALTER TABLE sliding_room ADD COLUMN profiles BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sliding_room ADD COLUMN profiles_upto BIGINT NOT NULL DEFAULT 0;
