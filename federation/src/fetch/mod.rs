//! Events from other servers: what is missing, what came before, and whether they may be believed.

pub mod backfill;
pub(crate) mod gather;
pub(crate) mod verify;
