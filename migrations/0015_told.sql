-- What processes tell each other: which rooms users have forgotten, and which are in the directory. The
-- state of things is in `membership` and `room`; here it stands when it changed last.
CREATE TABLE forgotten (
    user_no BIGINT NOT NULL,
    room BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    PRIMARY KEY (user_no, room)
);
CREATE UNIQUE INDEX forgotten_pos ON forgotten (pos);

CREATE TABLE listing (
    room ROW_ID PRIMARY KEY,
    public BIGINT NOT NULL,
    pos BIGINT NOT NULL
);
CREATE UNIQUE INDEX listing_pos ON listing (pos);
