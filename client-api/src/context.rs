//! An event's surroundings.
