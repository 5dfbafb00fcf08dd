-- Users of ours whose content is erased, and up to which position of the log who had seen it keeps it.
CREATE TABLE erasure (
    user_no ROW_ID PRIMARY KEY,
    pos BIGINT NOT NULL
);
