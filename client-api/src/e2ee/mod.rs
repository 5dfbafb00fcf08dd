//! What clients need for end-to-end encryption.

pub mod backup;
pub mod claim;
pub mod cross_signing;
pub mod dehydrated;
mod elsewhere;
pub mod query;
pub mod send_to_device;
pub mod signatures;
pub mod upload;
