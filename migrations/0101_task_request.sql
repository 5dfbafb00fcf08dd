-- What exactly is to be done, where the kind and the name of a task don't say all of it, and what has come of it so far: JSON,
-- as the kind says. `new_room`: the room that it has made, written in the commit that makes it.
ALTER TABLE task ADD COLUMN request TEXT;
ALTER TABLE task ADD COLUMN result TEXT;
ALTER TABLE task ADD COLUMN new_room BIGINT;
