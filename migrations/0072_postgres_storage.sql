-- Where PostgreSQL leaves room beside rows that change again and again, so that a change stays on its page and touches no index;
-- and when it looks after tables that rows come to and go from all the time: by a fiftieth of them, not a fifth.

POSTGRES:ALTER TABLE counter SET (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
POSTGRES:ALTER TABLE lease SET (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
POSTGRES:ALTER TABLE reader SET (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
POSTGRES:ALTER TABLE room SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
POSTGRES:ALTER TABLE current_state SET (fillfactor = 85);
POSTGRES:ALTER TABLE room_server SET (fillfactor = 85);
POSTGRES:ALTER TABLE unread SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
POSTGRES:ALTER TABLE device SET (fillfactor = 85);
POSTGRES:ALTER TABLE destination_state SET (fillfactor = 85);
POSTGRES:ALTER TABLE receipt SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
POSTGRES:ALTER TABLE client_transaction SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
POSTGRES:ALTER TABLE outbound SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
POSTGRES:ALTER TABLE outbound_last SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
POSTGRES:ALTER TABLE to_device SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
POSTGRES:ALTER TABLE to_device_out SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
-- Rows of events are nearly never deleted, but how many there are decides how they are looked for.
POSTGRES:ALTER TABLE event SET (autovacuum_analyze_scale_factor = 0.02);
