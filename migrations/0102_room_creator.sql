-- Who made a room: what operators put lists of rooms in order by. Rooms of before get theirs when such a list is asked for.
ALTER TABLE room_summary ADD COLUMN creator TEXT;
