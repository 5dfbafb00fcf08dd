//! Our users join, knock on and leave rooms through other servers.

mod at_server;
pub(crate) mod candidates;
pub mod join;
pub(crate) mod joining;
pub mod knock;
pub mod leave;
mod resident;
pub(crate) mod taking_back;
