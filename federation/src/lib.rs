//! Server-to-server: discovery, keys, X-Matrix, outbound HTTP, inbound endpoints, the sender.
//!
//! The only crate that opens connections to the outside. Every exchange with another server that
//! concerns a room is *gather → decide → commit*: this crate gathers, `rhizome_protocol` decides,
//! `rhizome_rooms` commits.
//!
//! - Out: [`outbound`] asks one server one thing (it finds it, connects, and [`xmatrix`] signs); [`query`],
//!   [`fetch`], [`local`] and [`membership`] build on it; [`sender`] is the reader of the log that delivers
//!   transactions.
//! - In: [`router`](Federation::router) is the table of contents; `rhizome_edge` is the door, [`xmatrix`] says who
//!   it is, `budgets` how much it may ask, `origins` what was done for it lately and what became of what it sent;
//!   `inbound` answers.
//! - [`media`]: files, asked of others and given to them.
//! - [`previews`]: of links, for clients.
//! - [`check`]: the way to a server, a step at a time, for operators; [`servers`]: which servers are spoken with.
//! - [`services`]: application services, which are asked about what is theirs.
//! - [`keys`] knows other servers' keys and publishes ours.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod acl;
mod budgets;
pub mod check;
mod config;
pub mod devices;
pub mod fetch;
mod handshake;
pub mod identity;
mod inbound;
mod keyed;
pub mod keys;
pub mod local;
pub mod media;
pub mod membership;
mod origins;
pub mod outbound;
mod partial;
mod policy;
pub mod previews;
pub mod query;
pub mod sender;
pub mod servers;
pub mod services;
pub mod spaces;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod xmatrix;

use std::{future::Future, sync::Arc, time::Duration};

use ::ruma::{OwnedUserId, ServerName};
use rhizome_appservice::{AppserviceClient, Registrations, Services};
use rhizome_edge::Table;
pub use rhizome_edge::{MatrixError, RawJson, Ruma};
use rhizome_media::Media;
use rhizome_protocol::sign::KeyPair;
use rhizome_rooms::Rooms;
use rhizome_storage::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    budgets::Budgets, fetch::Fetching, keyed::Keyed, media::Manners, membership::joining::Joining,
    origins::Origins, policy::Policies,
};
pub use crate::{
    budgets::Kind,
    config::{
        ConfigError, FederationConfig, MAX_OLD_KEYS, OldVerifyKey, RateLimits, non_public_ranges,
    },
    keys::KeyRing,
    outbound::Outbound,
    sender::Sender,
};

/// Everything that federation needs; cheap to clone, the state of its router.
#[derive(Clone)]
pub struct Federation {
    inner: Arc<Inner>,
}

struct Inner {
    rooms: Rooms,
    store: Store,
    media: Media,
    config: FederationConfig,
    outbound: Outbound,
    keys: KeyRing,
    sender: Sender,
    budgets: Budgets,
    origins: Origins,
    fetching: Fetching,
    policies: Policies,
    joining: Joining,
    inbound: inbound::Shared,
    inbox: Notify,
    stale_lists: Notify,
    partial: Notify,
    lists_asked_for: Keyed<OwnedUserId>,
    manners: Manners,
    asked_of_spaces: spaces::Asked,
    identity: identity::Ways,
    services: Services,
    asking: services::Asking,
}

impl Federation {
    /// Federation for a server. Opens no connection and starts no task yet: see [`Federation::run`].
    ///
    /// # Errors
    /// When the configuration can't be used: bad CA certificates, no resolver.
    pub fn new(
        rooms: Rooms,
        store: Store,
        media: Media,
        config: FederationConfig,
    ) -> Result<Self, ConfigError> {
        let outbound = Outbound::new(own_name(&rooms), own_key(&rooms), &config)?;
        Self::with(rooms, store, media, config, outbound)
    }

    /// Federation over an in-process network instead of sockets; [`testing::Network::attach`] its
    /// router to let others reach it.
    ///
    /// # Errors
    /// As [`Federation::new`].
    #[cfg(any(test, feature = "testing"))]
    pub fn in_process(
        rooms: Rooms,
        store: Store,
        config: FederationConfig,
        network: &testing::Network,
    ) -> Result<Self, ConfigError> {
        let media = network.media(&rooms, &store, Arc::new(rhizome_media::NoPictures));
        Self::in_process_with(rooms, store, media, config, network)
    }

    /// [`Federation::in_process`] with files kept as a test wants it.
    ///
    /// # Errors
    /// As [`Federation::new`].
    #[cfg(any(test, feature = "testing"))]
    pub fn in_process_with(
        rooms: Rooms,
        store: Store,
        media: Media,
        config: FederationConfig,
        network: &testing::Network,
    ) -> Result<Self, ConfigError> {
        let network = network.clone();
        let outbound = Outbound::in_process(own_name(&rooms), own_key(&rooms), &config, network);
        Self::with(rooms, store, media, config, outbound)
    }

    fn with(
        rooms: Rooms,
        store: Store,
        media: Media,
        config: FederationConfig,
        outbound: Outbound,
    ) -> Result<Self, ConfigError> {
        outbound.keep_to(&store);
        let (name, key) = (own_name(&rooms), own_key(&rooms));
        let services = config.services.clone();
        let services =
            services.unwrap_or_else(|| Services::new(Registrations::none(rooms.server_name())));
        let keys = KeyRing::new(name, key, store.clone(), &config, outbound.clone())?;
        let inner = Inner {
            sender: Sender::new(store.clock().clone()),
            budgets: Budgets::new(config.rate_limits.clone(), store.clock().clone()),
            origins: Origins::new(&config.rate_limits, store.clock().clone()),
            fetching: Fetching::default(),
            policies: Policies::default(),
            joining: Joining::default(),
            inbound: inbound::Shared::default(),
            inbox: Notify::new(),
            stale_lists: Notify::new(),
            partial: Notify::new(),
            lists_asked_for: Keyed::default(),
            manners: Manners::default(),
            asked_of_spaces: spaces::Asked::default(),
            identity: identity::Ways::default(),
            services,
            asking: services::Asking::new(config.extra_ca_pem.clone()),
            rooms,
            store,
            media,
            config,
            outbound,
            keys,
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

    /// The files that are here.
    pub fn media(&self) -> &Media {
        &self.inner.media
    }

    /// The settings this was made with.
    pub fn config(&self) -> &FederationConfig {
        &self.inner.config
    }

    /// How long a server is usually left alone that has failed so often in a row.
    pub fn usual_pause(&self, failures: u32) -> Duration {
        let config = self.config();
        sender::backoff::usual(failures, config.retry_min, config.retry_max)
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

    /// The queues of the outbound sender.
    pub fn sender(&self) -> &Sender {
        &self.inner.sender
    }

    /// The application services that count now.
    pub fn services(&self) -> &Services {
        &self.inner.services
    }

    /// What asks and tells them.
    pub fn service_client(&self) -> &AppserviceClient {
        &self.inner.asking.client
    }

    /// What asking them needs.
    pub(crate) fn asking(&self) -> &services::Asking {
        &self.inner.asking
    }

    /// How much other servers may still ask of us.
    pub(crate) fn budgets(&self) -> &Budgets {
        &self.inner.budgets
    }

    /// What is known of the servers that ask us.
    pub(crate) fn origins(&self) -> &Origins {
        &self.inner.origins
    }

    /// What is being fetched, and how those who are asked have been.
    pub(crate) fn fetching(&self) -> &Fetching {
        &self.inner.fetching
    }

    /// What is known of asking policy servers.
    pub(crate) fn policies(&self) -> &Policies {
        &self.inner.policies
    }

    /// The remote joins under way.
    pub(crate) fn joining(&self) -> &Joining {
        &self.inner.joining
    }

    /// What the inbound endpoints share.
    pub(crate) fn inbound(&self) -> &inbound::Shared {
        &self.inner.inbound
    }

    /// Something was put into the inbox, or something that it may wait for has come.
    pub(crate) fn inbox(&self) -> &Notify {
        &self.inner.inbox
    }

    /// A list of devices is stale.
    pub(crate) fn stale_lists(&self) -> &Notify {
        &self.inner.stale_lists
    }

    /// A room was joined before its members are known.
    pub(crate) fn partial(&self) -> &Notify {
        &self.inner.partial
    }

    /// Users of other servers whose lists of devices clients wait for.
    pub(crate) fn lists_asked_for(&self) -> &Keyed<OwnedUserId> {
        &self.inner.lists_asked_for
    }

    /// What is known of servers that are asked for files.
    pub(crate) fn manners(&self) -> &Manners {
        &self.inner.manners
    }

    /// What other servers were asked of spaces.
    pub(crate) fn asked_of_spaces(&self) -> &spaces::Asked {
        &self.inner.asked_of_spaces
    }

    /// Every federation endpoint, with 404 and 405 as the specification wants them.
    pub fn router(&self) -> axum::Router {
        endpoints().into_router(self.clone())
    }

    /// Drives the outbound sender, the durable inbox and what is asked for in the background, such as keys that end, until
    /// `shutdown` resolves. To be supervised: returns early only on a failure that a restart may cure.
    ///
    /// # Errors
    /// What ended it.
    pub async fn run(
        &self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), rhizome_storage::Error> {
        let stop = CancellationToken::new();
        let mut sender = Box::pin(sender::run(self, &stop));
        tokio::select! {
            () = shutdown => {}
            ended = &mut sender => return ended,
            ended = Box::pin(inbound::inbox::run(self)) => return ended,
            ended = devices::resync::run(self) => return ended,
            ended = sender::presence::run(self) => return ended,
            ended = membership::taking_back::run(self) => return ended,
            ended = Box::pin(keys::renewal::run(self)) => return ended,
            ended = Box::pin(local::tying::run(self)) => return ended,
            ended = Box::pin(partial::run(self)) => return ended,
            () = origins::writing::run(self) => {}
        }
        // The sender writes down how far it has got.
        stop.cancel();
        let ended = sender.await;
        origins::writing::write(self).await;
        ended
    }
}

/// The table of contents.
fn endpoints() -> Table<Federation> {
    let table = inbound::endpoints(Table::default());
    let table = keys::endpoints(table);
    let table = query::endpoints(table);
    let table = devices::answer::endpoints(table);
    let table = media::endpoints(table);
    query::directory::endpoints(table)
}

fn own_name(rooms: &Rooms) -> ::ruma::OwnedServerName {
    rooms.server_name().to_owned()
}

fn own_key(rooms: &Rooms) -> KeyPair {
    KeyPair::clone(rooms.key())
}
