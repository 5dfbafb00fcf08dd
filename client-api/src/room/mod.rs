//! What users do in rooms, and what rooms are now.

pub(crate) mod aliases;
mod by_address;
pub(crate) mod create;
pub(crate) mod delayed;
pub(crate) mod directory;
pub mod forget;
pub(crate) mod members;
pub(crate) mod membership;
pub mod notices;
pub(crate) mod receipts;
pub(crate) mod redact;
pub(crate) mod redact_related;
pub(crate) mod relating;
pub(crate) mod report;
pub(crate) mod schedule;
pub(crate) mod send;
pub(crate) mod state;
pub(crate) mod threads;
pub(crate) mod typing;
pub(crate) mod upgrade;
pub(crate) mod whole;
