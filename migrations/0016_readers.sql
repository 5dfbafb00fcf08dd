-- Work that one process does at a time (storage/src/engine/lease/). `fence`: raised with every take-over;
-- what is written for the holder is written on condition that it still has this one. `until`: ms, by the
-- database's clock; whoever comes after that may take it over. `sender_lease` is what versions before this
-- one go by; its rows are held beside these until there are none left.
CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    fence BIGINT NOT NULL,
    until BIGINT NOT NULL
);

-- How far each reader of the log has got (storage/src/log/reader/), and the fence of who reads.
CREATE TABLE reader (
    name TEXT PRIMARY KEY,
    fence BIGINT NOT NULL,
    pos BIGINT NOT NULL
);
