-- The last position of what goes to each set of destinations: one row for a message, however many servers are in its room.
-- It takes the place of one for each of them.
CREATE TABLE outbound_last (
    set_no ROW_ID PRIMARY KEY,
    last_pos BIGINT NOT NULL
);
INSERT INTO outbound_last (set_no, last_pos) SELECT set_no, MAX(pos) FROM outbound GROUP BY set_no;
CREATE INDEX outbound_last_pos ON outbound_last (last_pos);
DROP TABLE destination_room;
