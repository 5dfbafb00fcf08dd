-- Of a thread's events is counted what the reader may see and hears: the index answers that by itself, without a look
-- at each event's row.
CREATE INDEX relation_told ON relation (room, parent, rel_type, depth, ord, kind, sender, visibility, child);
DROP INDEX relation_of_type;
