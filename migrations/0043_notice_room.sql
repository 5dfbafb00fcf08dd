-- The room in which a user gets notices of this server: one for each (client-server API, "Server Notices").
CREATE TABLE notice_room (user_no ROW_ID PRIMARY KEY, room BIGINT NOT NULL);
