-- As 0066, another table.

SQLITE:CREATE TABLE event_auth_by_key (
SQLITE:    event BIGINT NOT NULL,
SQLITE:    auth BIGINT NOT NULL,
SQLITE:    PRIMARY KEY (event, auth)
SQLITE:) WITHOUT ROWID;
SQLITE:INSERT INTO event_auth_by_key (event, auth)
SQLITE:    SELECT event, auth FROM event_auth ORDER BY event, auth;
SQLITE:DROP TABLE event_auth;
SQLITE:ALTER TABLE event_auth_by_key RENAME TO event_auth;
SQLITE:CREATE INDEX event_auth_children ON event_auth (auth, event);
