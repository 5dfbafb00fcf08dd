-- What is due, by origin and room, and a lane's events in their order: found without reading the events themselves.
CREATE INDEX inbox_lanes ON inbox (due_ts, origin, room_id, attempts);
CREATE INDEX inbox_order ON inbox (room_id, origin, attempts, received_ts, place, due_ts);
