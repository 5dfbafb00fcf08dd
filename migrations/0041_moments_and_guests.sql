-- When events say that they were sent (`origin_server_ts`), in milliseconds since 1970, to find those around a moment.
-- Events from before this column have it from when somebody first looks for a moment of their room.
ALTER TABLE event ADD COLUMN ts BIGINT;

-- Accounts of guests (client-server, "Guest Access"): those that have a row here.
CREATE TABLE guest (user_no ROW_ID PRIMARY KEY);

-- Last, as it takes longest.
CREATE INDEX event_ts ON event (room, ts, depth, ord) WHERE ord IS NOT NULL;
