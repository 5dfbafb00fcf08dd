//! Sliding sync (MSC4186): named scenarios for its rules.

pub mod client;
mod lists;
mod rooms;
