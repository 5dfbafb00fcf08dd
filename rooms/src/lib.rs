//! Everything that makes or admits an event
