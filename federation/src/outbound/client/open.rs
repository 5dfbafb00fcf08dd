//! Whom we may ask.

use rhizome_storage::Store;
use ruma::ServerName;

use super::{Outbound, Transport};
use crate::{
    outbound::error::OutboundError,
    servers::{Closed, Direction},
};

impl Outbound {
    /// From now on servers are asked nothing that the operator has blocked.
    pub(crate) fn keep_to(&self, store: &Store) {
        // Once is enough: it is always the same.
        let _ = self.inner.store.set(store.clone());
    }

    /// Forgets where a server was found: who asks it next looks again.
    pub(crate) fn look_again(&self, server: &ServerName) {
        match &self.inner.transport {
            Transport::Network(connections) => connections.look_again(server),
            #[cfg(any(test, feature = "testing"))]
            Transport::InProcess(..) => {}
        }
    }

    /// Whether a server may be asked this. By its keys it is known who signed what comes by way of others, so one that is
    /// merely blocked is asked for these; what the configuration denies is never connected to.
    pub(super) async fn require_open(
        &self,
        destination: &ServerName,
        path: &str,
    ) -> Result<(), OutboundError> {
        // A policy server that has our name stands beside us.
        if destination == self.inner.server_name {
            return Ok(());
        }
        let asks_for_keys = path.starts_with("/_matrix/key/v2/server");
        let servers = &self.inner.servers;
        let closed = match self.inner.store.get() {
            Some(store) if !asks_for_keys => {
                let blocked = store.blocks().await;
                let blocked =
                    blocked.map_err(|error| OutboundError::Transport(error.to_string()))?;
                servers.judge(Direction::Out, destination, &blocked)
            }
            _ => servers.configured(Direction::Out, destination),
        };
        // As if it weren't there.
        let error =
            |closed: Closed| OutboundError::Transport(format!("{destination} {}", closed.as_str()));
        closed.map_or(Ok(()), |closed| Err(error(closed)))
    }
}
