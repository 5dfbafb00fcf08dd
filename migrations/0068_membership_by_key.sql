-- As 0066, another table.

SQLITE:CREATE TABLE membership_by_key (
SQLITE:    user_no BIGINT NOT NULL,
SQLITE:    room BIGINT NOT NULL,
SQLITE:    membership BIGINT NOT NULL,
SQLITE:    event BIGINT,
SQLITE:    pos BIGINT NOT NULL,
SQLITE:    since BIGINT NOT NULL,
SQLITE:    forgotten BIGINT NOT NULL,
SQLITE:    PRIMARY KEY (user_no, room)
SQLITE:) WITHOUT ROWID;
SQLITE:INSERT INTO membership_by_key (user_no, room, membership, event, pos, since, forgotten)
SQLITE:    SELECT user_no, room, membership, event, pos, since, forgotten FROM membership ORDER BY user_no, room;
SQLITE:DROP TABLE membership;
SQLITE:ALTER TABLE membership_by_key RENAME TO membership;
SQLITE:CREATE INDEX membership_room ON membership (room, membership, user_no);
SQLITE:CREATE INDEX membership_since ON membership (room, membership, since, event);
