//! Server-to-server: discovery, keys, X-Matrix, outbound HTTP, inbound endpoints, the sender.
//!
//! The only crate that opens connections to the outside. Every exchange with another server that
//! concerns a room is *gather → decide → commit*: this crate gathers, `rhizome_protocol` decides,
//! `rhizome_rooms` commits.
//!
//! - Out: [`client`] asks one server one thing ([`discovery`] finds it, [`xmatrix`] signs), [`query`]
//!   and the join, leave, invite and backfill modules build on it; [`sender`] is the reader of the log
//!   that delivers transactions.
//! - In: [`router`](Federation::router) is the table of contents; [`ruma`] decodes and authenticates.
//! - [`keys`] knows other servers' keys and publishes ours.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod acl;
pub mod backfill;
pub mod client;
mod config;
mod connect;
pub mod discovery;
pub mod error;
pub mod gather;
mod inbound;
pub mod inbox;
pub mod invite;
pub mod join;
pub mod keys;
pub mod leave;
pub mod local;
mod order;
pub mod query;
pub mod ruma;
pub mod sender;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod typing;
mod verify;
mod wellknown;
pub mod xmatrix;

use std::{future::Future, sync::Arc};

use ::ruma::ServerName;
use pending::Rooms;
use rhizome_storage::Store;
use rhizome_protocol::sign::KeyPair;

/// Stands in until the crates to the left are there.
#[allow(missing_docs)]
pub mod pending {
    use super::{KeyPair, ServerName};
    #[derive(Clone)]
    pub struct Rooms {
        pub server_name: ::ruma::OwnedServerName,
        pub key: std::sync::Arc<KeyPair>,
    }
    impl Rooms {
        pub fn server_name(&self) -> &ServerName {
            &self.server_name
        }
        pub fn key(&self) -> &KeyPair {
            &self.key
        }
    }
}

pub use crate::{
    client::Outbound,
    config::{ConfigError, FederationConfig, OldVerifyKey, non_public_ranges},
    error::MatrixError,
    keys::KeyRing,
    ruma::{Decoded, RawJson, Reply, Ruma, RumaRoute, Scheme},
};

/// Everything that federation needs; cheap to clone, the state of its router.
#[derive(Clone)]
pub struct Federation {
    inner: Arc<Inner>,
}

struct Inner {
    rooms: Rooms,
    store: Store,
    config: FederationConfig,
    outbound: Outbound,
    keys: KeyRing,
    sender: sender::Wake,
    inbound: inbound::Shared,
}

impl Federation {
    /// Federation for a server. Opens no connection and starts no task yet: see [`Federation::run`].
    ///
    /// # Errors
    /// When the configuration can't be used: bad CA certificates, no resolver.
    pub fn new(
        rooms: Rooms,
        store: Store,
        config: FederationConfig,
    ) -> Result<Self, ConfigError> {
        let outbound = Outbound::new(rooms.server_name().to_owned(), rooms.key().clone(), &config)?;
        let keys = KeyRing::new(
            rooms.server_name().to_owned(),
            rooms.key().clone(),
            store.clone(),
            &config,
            outbound.clone(),
        )?;
        let inner = Inner {
            rooms,
            store,
            config,
            outbound,
            keys,
            sender: sender::Wake::default(),
            inbound: inbound::Shared::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The room layer.
    pub fn rooms(&self) -> &Rooms {
        &self.inner.rooms
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The settings this was made with.
    pub fn config(&self) -> &FederationConfig {
        &self.inner.config
    }

    /// Our own server name.
    pub fn server_name(&self) -> &ServerName {
        self.inner.rooms.server_name()
    }

    /// Our own signing key.
    pub fn signing_key(&self) -> &KeyPair {
        self.inner.rooms.key()
    }

    /// Requests to other servers.
    pub fn outbound(&self) -> &Outbound {
        &self.inner.outbound
    }

    /// Other servers' keys.
    pub fn keys(&self) -> &KeyRing {
        &self.inner.keys
    }

    /// Wakes the sender's queue to a server.
    pub fn sender(&self) -> &sender::Wake {
        &self.inner.sender
    }

    /// What the inbound endpoints share.
    pub(crate) fn inbound(&self) -> &inbound::Shared {
        &self.inner.inbound
    }

    /// Every federation endpoint, with 404 and 405 as the specification wants them.
    pub fn router(&self) -> axum::Router {
        inbound::routes()
            .merge(keys::routes())
            .merge(query::routes())
            .unrecognized()
            .with_state(self.clone())
    }

    /// Drives the outbound sender and the durable inbox until `shutdown` resolves. To be supervised:
    /// returns early only on a failure that a restart may cure.
    ///
    /// # Errors
    /// What ended it.
    pub async fn run(
        &self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), rhizome_storage::Error> {
        tokio::select! {
            () = shutdown => Ok(()),
            ended = sender::run(self) => ended,
            ended = inbox::run(self) => ended,
        }
    }
}
