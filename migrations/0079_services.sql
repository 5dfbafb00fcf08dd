-- Rooms in the directory of another network. `instance`: the application service that keeps it, and which of its networks.
CREATE TABLE network_listing (
    instance TEXT NOT NULL,
    room BIGINT NOT NULL,
    PRIMARY KEY (instance, room)
);
CREATE INDEX network_listing_room ON network_listing (room);

-- The operator wants the registrations of application services to be read again. The rows only tell the processes.
CREATE TABLE appservice_reload (
    asked_ms BIGINT NOT NULL,
    pos BIGINT NOT NULL
);
CREATE UNIQUE INDEX appservice_reload_pos ON appservice_reload (pos);
