//! What clients need for end-to-end encryption.

pub mod claim;
pub mod cross_signing;
mod elsewhere;
pub mod query;
pub mod signatures;
pub mod upload;
