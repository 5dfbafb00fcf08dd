-- Searching for words (client-server API, "Server Side Search").

-- The words of what was said, by its place in the log or, before we were there, in the history (event.ord). An edited
-- message has the words that it has now. `scope` says where and what that is (storage/src/search).
SQLITE: CREATE VIRTUAL TABLE search USING fts5(scope, words, content = '', contentless_delete = 1, tokenize = 'ascii', prefix = '2');
POSTGRES: CREATE TABLE search (ord BIGINT PRIMARY KEY, words TSVECTOR NOT NULL);
POSTGRES: CREATE INDEX search_words ON search USING gin (words);

-- Of which message an event is an edit: a redacted edit doesn't say so any more.
CREATE TABLE search_edit (edit ROW_ID PRIMARY KEY, message BIGINT NOT NULL);

-- Up to which position of the log all is in the index, and down to which place of the history from before.
CREATE TABLE search_upto (id ROW_ID PRIMARY KEY, live BIGINT NOT NULL, back BIGINT NOT NULL);
INSERT INTO search_upto (id, live, back) VALUES (1, 0, 0);
