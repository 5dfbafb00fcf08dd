//! The client form of events.
