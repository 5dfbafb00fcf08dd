//! Other servers' keys, and ours for them.

use std::sync::Arc;

use axum::Router;
use ruma::{OwnedServerName, ServerName};

use crate::Federation;

/// Keys of other servers: cached, stored, fetched from the server itself or through notaries.
#[derive(Clone)]
pub struct KeyRing {
    inner: Arc<Inner>,
}

struct Inner {}

/// A key that is needed: whose, which, and when it must have been valid (ms).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wanted {
    /// The server.
    pub server: OwnedServerName,
    /// `ed25519:…`
    pub key_id: String,
    /// Milliseconds since 1970.
    pub valid_at: i64,
}

/// Keys gathered for the core, by [`KeyRing::prefetch`].
#[derive(Debug, Default, Clone)]
pub struct Gathered {}

impl rhizome_protocol::receive::Keys for Gathered {
    fn key(&self, _: &ServerName, _: &str, _: i64) -> rhizome_protocol::receive::KeyLookup {
        unimplemented!()
    }
}

impl KeyRing {
    /// The ring of a server.
    pub fn new(
        _rooms: &crate::pending::Rooms,
        _store: &crate::pending::Store,
        _config: &crate::FederationConfig,
        _outbound: crate::Outbound,
    ) -> Self {
        unimplemented!()
    }

    /// Gets the wanted keys: from memory, the database, the servers, the notaries. What can't be had
    /// is absent from the answer (and looked up as `Expired`, so that the core doesn't ask again).
    pub async fn prefetch(&self, _wanted: &[Wanted]) -> Gathered {
        unimplemented!()
    }
}

/// `/_matrix/key/v2/…`
pub fn routes() -> Router<Federation> {
    Router::new()
}
