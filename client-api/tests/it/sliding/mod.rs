//! Sliding sync (MSC4186): named scenarios for its rules.

pub mod client;
mod connections;
mod cost;
mod extensions;
mod hostile;
mod lists;
pub mod profiles;
mod profiles_across;
mod rooms;
