//! Listeners: their addresses, certificates, and what is served there.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Api, Config, Listener};
use crate::http::{self, Routers, Serving};
use crate::tasks::Tasks;
use crate::tls::{self, Certificate};

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

/// What all listeners have in common.
pub(super) struct Accepting {
    pub(super) routers: Routers,
    pub(super) stop: CancellationToken,
    pub(super) kill: CancellationToken,
    pub(super) connections: TaskTracker,
}

/// Accepts on these, which are those of the configuration. Gives their addresses, and the certificates that they show.
pub(super) fn accept(
    tasks: &Tasks,
    config: &Config,
    listeners: Vec<TcpListener>,
    with: &Accepting,
) -> anyhow::Result<(Vec<SocketAddr>, Vec<Arc<Certificate>>)> {
    let (mut addresses, mut certificates) = (Vec::new(), Vec::new());
    for (listener, settings) in listeners.into_iter().zip(&config.listeners) {
        addresses.push(listener.local_addr()?);
        let certificate = certificate(settings)?;
        certificates.extend(certificate.clone());
        let serving = Serving {
            routers: with.routers.clone(),
            apis: served(settings, config),
            limits: config.http.clone(),
            largest_upload: config.media.max_upload_size.0,
            tls: certificate.map(tls::acceptor).transpose()?,
            stop: with.stop.clone(),
            kill: with.kill.clone(),
            connections: with.connections.clone(),
            peers: Arc::default(),
            slots: slots(config),
        };
        serve(tasks, listener, serving);
    }
    Ok((addresses, certificates))
}

fn serve(tasks: &Tasks, listener: TcpListener, serving: Serving) {
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
fn served(listener: &Listener, config: &Config) -> Vec<Api> {
    let off = !config.federation.enabled;
    listener
        .apis
        .iter()
        .copied()
        .filter(|api| !(off && *api == Api::Federation))
        .collect()
}

/// The certificate of a listener, if it has one.
fn certificate(listener: &Listener) -> anyhow::Result<Option<Arc<Certificate>>> {
    let tls = listener.tls.as_ref();
    tls.map(|tls| Certificate::load(&tls.certificate, &tls.key))
        .transpose()
}

/// As many as there may be connections.
fn slots(config: &Config) -> Arc<Semaphore> {
    let most = config.http.max_connections;
    Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))
}
