//! What reaches users: client endpoints, `/sync`, the WebSocket stream, admin registration.
//!
//! [`router()`] is the table of contents. A request passes through `rhizome_edge` (authentication, rate limit, body),
//! is decoded by `ruma` in [`Ruma`], and reaches a handler of about ten lines in the file of its endpoint group.
//!
//! Folders import each other in one direction, from top to bottom: `admin`, for administrators; `sync`, which tells of everything; `room` and
//! `history`; `account`; `push`; `auth`; `view`. `media`, `people` and `space` know none of them but `view`. What several of them need and none of them
//! owns is a file beside them (`limits`, `content`, `account_data`, `member`, `page`, `identity`, `user_ids`) or in `place`; `door` stands before them and no
//! folder knows it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod account;
mod account_data;
mod admin;
mod appservice;
mod auth;
pub mod config;
mod content;
mod discovery;
mod door;
mod e2ee;
mod figures;
mod history;
mod identity;
mod jwt;
mod limits;
mod media;
mod member;
pub mod notify;
mod page;
mod people;
mod place;
mod push;
mod room;
mod router;
mod space;
mod sync;
pub mod tasks;
pub mod told;
mod user_ids;
mod view;
mod voip;
mod welcome;
mod well_known;

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use rhizome_edge::Bodies;
use rhizome_federation::{
    Federation,
    outbound::{Messenger, Reach},
};
use rhizome_rooms::Rooms;
use rhizome_storage::Store;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    account::profile::remote::RemoteProfiles,
    auth::{password::Passwords, token::TokenCache},
    e2ee::backup,
    history::asked::InVain,
    limits::Limits,
};

pub use account::{
    carried::CarrySettings, guests::PutOutGuests, profile::tell::TellProfiles, users,
};
pub use admin::endpoints as admin_endpoints;
pub use auth::slots::Hashing;
pub use config::ClientConfig;
pub use figures::ClientFigures;
pub use jwt::{Algorithm as JwtAlgorithm, Claims as JwtClaims, JwtLogin};
pub use media::{Files, LinkPreviews, RemoteFiles};
pub use people::networks::{Network, Networks};
pub use push::{channels::Channels, mailing::Mailing};
pub use rhizome_edge::{Caller, MatrixError, Ruma};
pub use room::delayed::run as send_delayed;
pub use room::redact_related::RedactRelated;
pub use room::{forget::ForgetLeft, notices};
pub use router::router;
pub use sync::{WriteUnread, window::Window};

/// The context of the client API. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of an [`App`].
pub struct Parts {
    /// The database and the log.
    pub store: Store,
    /// Everything that makes or admits an event.
    pub rooms: Rooms,
    /// Other servers; every local event enters through it.
    pub federation: Federation,
    /// What users upload and download.
    pub files: Files,
    /// What the operator decided.
    pub config: Arc<ClientConfig>,
    /// Cancelled when the server stops: long polls answer at once.
    pub shutdown: CancellationToken,
    /// Access tokens seen lately.
    pub(crate) tokens: TokenCache,
    /// What readers of the log share.
    pub(crate) sync: sync::Shared,
    /// What other servers said of their users a moment ago.
    pub(crate) remote_profiles: RemoteProfiles,
    /// What application services said of their networks a moment ago.
    pub(crate) service_protocols: people::services::Protocols,
    /// Where no other server has helped with history.
    pub(crate) in_vain: InVain,
    /// Rate limits.
    pub(crate) limits: Limits,
    /// Memory for bodies that are larger than what others send.
    pub(crate) bodies: Arc<Bodies>,
    /// Requests that are finished although their clients have hung up.
    pub unfinished: TaskTracker,
    /// Password hashing.
    pub(crate) passwords: Passwords,
    /// What is counted for who looks at it.
    pub(crate) counts: figures::Counts,
    /// What asks the operator's services, once it is needed.
    messenger: OnceLock<Option<Messenger>>,
}

impl App {
    /// The client API over a store, its rooms, its federation and its files.
    pub fn new(
        store: Store,
        rooms: Rooms,
        federation: Federation,
        files: Files,
        config: Arc<ClientConfig>,
        shutdown: CancellationToken,
    ) -> Self {
        let limits = Limits::new(&config.rate_limits, store.user_limits().clone());
        let passwords = Passwords::new(config.password_cost);
        let tokens = TokenCache::default();
        Self(Arc::new(Parts {
            store,
            rooms,
            federation,
            files,
            config,
            shutdown,
            tokens,
            sync: sync::Shared::default(),
            remote_profiles: RemoteProfiles::default(),
            service_protocols: people::services::Protocols::default(),
            in_vain: InVain::default(),
            limits,
            bodies: Bodies::new(backup::MEMORY.0, backup::MEMORY.1),
            unfinished: TaskTracker::new(),
            passwords,
            counts: figures::Counts::default(),
            messenger: OnceLock::new(),
        }))
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Parts {
    /// Milliseconds of the monotonic clock.
    pub(crate) fn now_monotonic_ms(&self) -> u64 {
        rhizome_edge::limits::ms(self.store.clock().monotonic())
    }

    /// What is known of hashing passwords.
    pub fn hashing(&self) -> Hashing {
        self.passwords.hashing()
    }

    /// What asks services that the operator has named; `None` if the web can't be reached at all.
    pub(crate) fn messenger(&self) -> Option<&Messenger> {
        let made = || self.federation.outbound().messenger(&Reach::default());
        self.messenger.get_or_init(made).as_ref()
    }
}
