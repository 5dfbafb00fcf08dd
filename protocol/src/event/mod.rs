//! Events: how they are made, hashed, signed, redacted, received and read.

pub mod content;
pub mod draft;
pub mod hash;
mod id;
pub(crate) mod incoming;
mod limits;
pub(crate) mod pdu;
pub mod receive;
pub mod redact;
pub(crate) mod rejection;
pub mod sign;
