//! Events: how they are made, hashed, signed, redacted, received and read.

pub mod content;
pub mod draft;
pub mod hash;
mod id;
mod incoming;
mod limits;
mod pdu;
pub mod policy;
pub mod receive;
pub mod redact;
mod rejection;
pub mod sign;
pub mod sticky;

pub use incoming::Incoming;
pub use pdu::Pdu;
pub use rejection::Rejection;
