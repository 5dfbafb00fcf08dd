//! From HTTP to a handler and back: decoding, errors, rate limits.

pub(crate) mod error;
pub mod limits;
pub mod ruma;
