//! Whom the operator lets us ask.

use rhizome_storage::Store;
use ruma::ServerName;

use super::Outbound;
use crate::outbound::error::OutboundError;

impl Outbound {
    /// From now on servers are asked nothing that the operator has blocked.
    pub(crate) fn keep_to(&self, store: &Store) {
        // Once is enough: it is always the same.
        let _ = self.inner.store.set(store.clone());
    }

    pub(super) async fn require_open(&self, destination: &ServerName) -> Result<(), OutboundError> {
        let Some(store) = self.inner.store.get() else {
            return Ok(());
        };
        let blocks = store.blocks().await;
        match blocks.map(|blocks| blocks.to(destination)) {
            Ok(false) => Ok(()),
            // As if it weren't there: what is for it waits.
            Ok(true) => Err(OutboundError::Transport(
                "the operator of this server has blocked it".to_owned(),
            )),
            Err(error) => Err(OutboundError::Transport(error.to_string())),
        }
    }
}
