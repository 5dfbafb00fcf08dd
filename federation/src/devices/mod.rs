//! Devices and keys of users, between servers
//! (<https://spec.matrix.org/v1.19/server-server-api/#device-management>,
//! <https://spec.matrix.org/v1.19/server-server-api/#end-to-end-encryption>).
//!
//! - [`answer`]: what other servers are told of users here when they ask.
//! - [`outgoing`]: what they are told of changes, each with the one before it.
//! - [`incoming`]: what they tell of theirs. What follows upon what is remembered goes on with it; anything else
//!   makes it stale.
//! - [`list`]: a user's list as another server tells it: checked, bounded, and held against what is remembered.
//! - [`ask`]: asking another server.
//! - [`resync`]: stale lists are asked for again, one request for a user at a time.
//! - [`waited`]: lists that clients wait for, each asked for once.
//! - [`keys`]: keys of users of other servers, for a client that asks.
//! - [`ours`]: one-time keys of users here, for whoever claims them.
//! - [`proxied`]: keys that application services have of their users.
//!
//! What is remembered of a user is right for as long as they have shared a room with somebody here without a break
//! since it was asked for: for that long their server tells us what changes.

pub(crate) mod answer;
mod ask;
pub(crate) mod incoming;
pub mod keys;
mod list;
pub mod ours;
pub(crate) mod outgoing;
pub mod proxied;
pub(crate) mod resync;
mod waited;

/// The most devices of a user of another server that are remembered.
const MAX_DEVICES: usize = 5_000;
/// The most bytes of keys of a user of another server that are remembered.
const MAX_BYTES: usize = 1 << 20;
/// The longest id or name of a device that is taken, in bytes.
const MAX_NAME: usize = 255;
