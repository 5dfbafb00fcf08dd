//! The outbound sender: a reader of the log that delivers transactions.

use crate::Federation;
use ruma::ServerName;

/// Wakes queues.
#[derive(Debug, Default)]
pub struct Wake {}

impl Wake {
    /// A request from `server` came in: it is up again, so its back-off ends now.
    pub fn seen(&self, _server: &ServerName) {}
}

/// Delivers until it is dropped.
pub async fn run(_fed: &Federation) -> Result<(), rhizome_storage::Error> {
    std::future::pending().await
}
