-- What a user says of their presence has its place in the log, by which the other processes hear of it. Who says nothing any more
-- keeps the row, with an empty text. No place: it was said before there were any.
ALTER TABLE status_message ADD COLUMN pos BIGINT;
CREATE UNIQUE INDEX status_message_pos ON status_message (pos);
