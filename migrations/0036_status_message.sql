-- What users here say of their presence. Everything else of presence is in memory only.
CREATE TABLE status_message (user_no ROW_ID PRIMARY KEY, message TEXT NOT NULL);
