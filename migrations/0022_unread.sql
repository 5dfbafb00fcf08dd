-- What users have not read of rooms, written down now and then (client-server, "Receiving notifications").

-- `upto`: as of which position. `since`: since when the user was in the room; `rules`: where the last change of what they
-- want to be notified of stands. A row that differs from the present in one of these says nothing. `tally`: JSON.
CREATE TABLE unread (
    room BIGINT NOT NULL,
    user_no BIGINT NOT NULL,
    upto BIGINT NOT NULL,
    since BIGINT NOT NULL,
    rules BIGINT NOT NULL,
    tally TEXT NOT NULL,
    PRIMARY KEY (room, user_no)
);
