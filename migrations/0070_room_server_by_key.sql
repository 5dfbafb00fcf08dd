-- As 0066, another table.

SQLITE:CREATE TABLE room_server_by_key (
SQLITE:    room BIGINT NOT NULL,
SQLITE:    server BIGINT NOT NULL,
SQLITE:    joined BIGINT NOT NULL,
SQLITE:    since BIGINT NOT NULL DEFAULT 0,
SQLITE:    PRIMARY KEY (room, server)
SQLITE:) WITHOUT ROWID;
SQLITE:INSERT INTO room_server_by_key (room, server, joined, since)
SQLITE:    SELECT room, server, joined, since FROM room_server ORDER BY room, server;
SQLITE:DROP TABLE room_server;
SQLITE:ALTER TABLE room_server_by_key RENAME TO room_server;
SQLITE:CREATE INDEX room_server_server ON room_server (server);
