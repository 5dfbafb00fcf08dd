-- The last position of what goes to each set of destinations: one row for a message, however many servers are in its room.
-- It takes the place of one for each of them. Which servers a set has is written down when it is first used.
DROP TABLE destination_room;
CREATE TABLE outbound_last (
    set_no ROW_ID PRIMARY KEY,
    last_pos BIGINT NOT NULL
);
INSERT INTO outbound_last (set_no, last_pos) SELECT set_no, MAX(pos) FROM outbound GROUP BY set_no;
CREATE INDEX outbound_last_pos ON outbound_last (last_pos);
CREATE INDEX outbound_set ON outbound (set_no, pos);
CREATE TABLE set_member (
    server BIGINT NOT NULL,
    set_no BIGINT NOT NULL,
    PRIMARY KEY (server, set_no)
);
SQLITE:INSERT INTO set_member (server, set_no) SELECT DISTINCT json_extract(e.value, '$[0]'), d.no FROM destination_set d, json_each(d.servers) AS e;
POSTGRES:INSERT INTO set_member (server, set_no) SELECT DISTINCT CAST(e.value ->> 0 AS BIGINT), d.no FROM destination_set d, json_array_elements(CAST(d.servers AS json)) AS e(value);
CREATE INDEX set_member_set ON set_member (set_no);
