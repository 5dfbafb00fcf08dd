//! Sending events.
