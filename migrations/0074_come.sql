-- While a server that was away gets what leads to the rest instead of everything, `sent_pos` stays where that began, so that what
-- was passed over is still there if it can't be asked for any more; this says how far it has come.
ALTER TABLE destination_state ADD COLUMN come_pos BIGINT NOT NULL DEFAULT 0;
