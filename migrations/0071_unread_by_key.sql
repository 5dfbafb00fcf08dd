-- As 0066, another table.

SQLITE:CREATE TABLE unread_by_key (
SQLITE:    room BIGINT NOT NULL,
SQLITE:    user_no BIGINT NOT NULL,
SQLITE:    upto BIGINT NOT NULL,
SQLITE:    since BIGINT NOT NULL,
SQLITE:    rules BIGINT NOT NULL,
SQLITE:    tally TEXT NOT NULL,
SQLITE:    PRIMARY KEY (room, user_no)
SQLITE:) WITHOUT ROWID;
SQLITE:INSERT INTO unread_by_key (room, user_no, upto, since, rules, tally)
SQLITE:    SELECT room, user_no, upto, since, rules, tally FROM unread ORDER BY room, user_no;
SQLITE:DROP TABLE unread;
SQLITE:ALTER TABLE unread_by_key RENAME TO unread;
