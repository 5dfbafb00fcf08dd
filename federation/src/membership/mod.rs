//! Our users join, knock on and leave rooms, and invite, through other servers.

mod candidates;
mod handshake;
pub(crate) mod invite;
pub mod join;
pub(crate) mod joining;
pub mod knock;
pub mod leave;
pub(crate) mod stripped;
