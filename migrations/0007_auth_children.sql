-- What an event allows: state resolution asks whether a state still rests on it (rooms/src/state_at/difference.rs).
CREATE INDEX event_auth_children ON event_auth (auth, event);
