//! The Matrix room model as pure functions: events, hashes, signatures, auth rules, state resolution.
//!
//! Nothing here does I/O, waits, reads a clock or draws a random number. What a function needs, it
//! is given; what it lacks, it names in its answer ([`resolve::Missing`], [`receive::Refusal`]), so
//! that the caller fetches it and asks again.
//!
//! The life of a PDU that another server sent:
//!
//! 1. [`Incoming::parse`] reads bytes from a stranger into a bounded JSON object.
//! 2. [`receive::verify`] checks format, signatures and content hash and gives a [`Pdu`].
//! 3. [`auth::check_auth_events`] looks at the auth events that it names.
//! 4. [`auth::authorize`] decides against a state; [`resolve::resolve`] makes that state from forks.
//!
//! The life of an event of ours: a [`draft::Draft`], its auth events from [`auth::auth_keys`],
//! [`draft::build`], then [`auth::authorize`] as above.
//!
//! What imports what: [`rules`] stands on JSON ([`canonical`], [`as_sent`]) alone, events on these, [`auth`] on
//! events, [`resolve`] on auth, [`explain`] on all of it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod auth;
pub mod device_keys;
mod event;
pub mod explain;
pub mod glob;
mod json;
mod refusal;
pub mod resolve;
pub mod rules;
pub mod server_keys;
pub mod topological;
pub mod visibility;

pub use auth::power;
pub use event::{
    Incoming, Pdu, Rejection,
    content::{self, Membership},
    draft, hash, policy, receive, redact, sign, sticky,
};
pub use json::{as_sent, canonical};
pub use refusal::Refusal;
pub use rules::RoomRules;

/// A JSON object.
pub type Object = serde_json::Map<String, serde_json::Value>;

/// What distinguishes the entries of a room's state: event type and state key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey {
    /// The event type, e.g. `m.room.member`.
    pub kind: String,
    /// The state key, often empty.
    pub key: String,
}

impl StateKey {
    /// A state key from its two halves.
    pub fn new(kind: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            key: key.into(),
        }
    }
}
