//! Listeners: their addresses, certificates, and what is served there.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::config::{Api, Config, Listener};
use crate::http::{self, Serving};
use crate::tasks::Tasks;
use crate::tls::Certificate;

pub(super) async fn bind(config: &Config) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for listener in &config.listeners {
        let address = listener.address;
        let bound = TcpListener::bind(address).await.with_context(|| {
            format!(
                "can't listen on {address}; is another server running there? Change the listener's address, or stop the other"
            )
        })?;
        listeners.push(bound);
    }
    Ok(listeners)
}

pub(super) fn serve(tasks: &Tasks, listener: TcpListener, serving: Serving) {
    let (listener, serving) = (Arc::new(listener), Arc::new(serving));
    tasks.supervise("listener", move |_| {
        let (listener, serving) = (listener.clone(), serving.clone());
        async move {
            http::accept(listener, serving).await;
            Ok(())
        }
    });
}

/// What a listener serves: federation only where it is switched on.
pub(super) fn served(listener: &Listener, config: &Config) -> Vec<Api> {
    let off = !config.federation.enabled;
    listener
        .apis
        .iter()
        .copied()
        .filter(|api| !(off && *api == Api::Federation))
        .collect()
}

/// The certificate of a listener, if it has one.
pub(super) fn certificate(listener: &Listener) -> anyhow::Result<Option<Arc<Certificate>>> {
    let tls = listener.tls.as_ref();
    tls.map(|tls| Certificate::load(&tls.certificate, &tls.key))
        .transpose()
}

/// As many as there may be connections.
pub(super) fn slots(config: &Config) -> Arc<Semaphore> {
    let most = config.http.max_connections;
    Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))
}
