//! Everything that makes or admits an event.
//!
//! A room changes in one way only: **gather → decide → commit**. This crate gathers from `storage`
//! (what other servers have to give is gathered by `federation` before it calls), decides with the pure
//! functions of `protocol`, and commits one [`rhizome_storage::WriteSet`].
//!
//! | the event comes from | door |
//! |---|---|
//! | a local user | [`send::send`]; [`create::create`] for a new room, [`upgrade::upgrade`] for one that replaces another |
//! | a local user, but others sign it first (an invite to another server, a room with a policy server) | [`send::prepare_to_sign`], then [`admit::admit_own`] |
//! | another server by a template of ours (`send_join`, `send_leave`) | [`admit::admit_signed`] |
//! | another server's transaction | [`receive::receive`] |
//! | another server's answer: state and auth chain | [`receive::outliers`], [`admit::adopt`] |
//! | another server's answer: history | [`receive::backfilled`] |
//!
//! Every commit is conditional on the room's state version that it was decided on. When the version
//! moved, a draft is decided again; an event that is signed already is checked again but never rebuilt.
//! The locks of this process only keep it from racing with itself.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod access;
pub mod admit;
pub mod create;
mod error;
pub mod invites;
pub mod loose_ends;
pub mod membership;
pub mod partial;
pub mod policies;
pub mod policy_server;
pub mod receive;
pub mod redact_banned;
pub mod send;
pub mod space;
pub mod state;
pub mod sticky;
pub mod thread;
pub mod upgrade;

use std::sync::Arc;

use rhizome_protocol::sign::KeyPair;
use rhizome_storage::Store;
use ruma::{OwnedServerName, ServerName, UserId};

pub use error::Error;

/// What the functions of this crate work with. Cheap to clone; clones share queues and caches.
#[derive(Clone)]
pub struct Rooms {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    server: OwnedServerName,
    key: Arc<KeyPair>,
    queues: send::queue::Queues,
    policy_servers: policy_server::Named,
    loose_ends: loose_ends::Noted,
}

impl Rooms {
    /// The rooms of `server`, whose events `key` signs.
    pub fn new(store: Store, server: OwnedServerName, key: Arc<KeyPair>) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                server,
                key,
                queues: send::queue::Queues::default(),
                policy_servers: policy_server::Named::default(),
                loose_ends: loose_ends::Noted::default(),
            }),
        }
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Our server name.
    pub fn server_name(&self) -> &ServerName {
        &self.inner.server
    }

    /// The key that signs our events.
    pub fn key(&self) -> &Arc<KeyPair> {
        &self.inner.key
    }

    /// Whether `user` is one of this server's.
    pub fn is_local(&self, user: &UserId) -> bool {
        user.server_name() == self.server_name()
    }

    fn queues(&self) -> &send::queue::Queues {
        &self.inner.queues
    }

    fn policy_servers(&self) -> &policy_server::Named {
        &self.inner.policy_servers
    }

    fn loose_ends(&self) -> &loose_ends::Noted {
        &self.inner.loose_ends
    }
}
