-- Up to which position of the log a task is about: what had happened when it was written down.
ALTER TABLE task ADD COLUMN upto BIGINT;
