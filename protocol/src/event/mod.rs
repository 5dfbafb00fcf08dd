//! Events: how they are made, hashed, signed, redacted, received and read.

pub mod content;
pub mod draft;
pub mod hash;
pub(crate) mod incoming;
pub(crate) mod pdu;
pub mod receive;
pub mod redact;
pub(crate) mod rejection;
pub mod sign;
