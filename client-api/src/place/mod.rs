//! Places that clients hold as opaque tokens: in the log, and in a room's history.

pub(crate) mod point;
pub(crate) mod token;
