-- Filters that clients have stored, numbered per user. `json`: as received.
CREATE TABLE client_filter (
    user_no BIGINT NOT NULL,
    id BIGINT NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (user_no, id)
);
