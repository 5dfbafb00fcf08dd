//! The listener of metrics, where there is one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use rhizome_client_api::App;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::metrics::{self, Metrics, Requests, Watched};
use crate::tasks::Tasks;

/// A listener to which nobody is told anything yet.
pub(super) struct Waiting {
    listener: TcpListener,
    address: SocketAddr,
    /// What requests are counted by.
    pub(super) requests: Arc<Requests>,
}

/// Binds the address of the configuration; `None`: there are to be no metrics.
///
/// # Errors
/// It can't be listened on.
pub(super) async fn bind(config: &Config) -> anyhow::Result<Option<Waiting>> {
    let Some(address) = config.metrics.listen else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!(
            "can't listen on {address} for metrics; does something else listen there? Change metrics.listen, or stop the other"
        )
    })?;
    let address = listener.local_addr()?;
    Ok(Some(Waiting {
        listener,
        address,
        requests: Arc::default(),
    }))
}

impl Waiting {
    /// Tells of a server from now on. Gives the address.
    pub(super) fn tell(
        self,
        config: &Config,
        (app, tasks, connections): (&App, &Tasks, &TaskTracker),
    ) -> SocketAddr {
        let metrics = Arc::new(Metrics::new(Watched {
            app: app.clone(),
            tasks: tasks.clone(),
            connections: connections.clone(),
            requests: self.requests,
            places: places(config),
        }));
        let listener = Arc::new(self.listener);
        tasks.supervise("metrics", move |stop| {
            let (listener, metrics) = (listener.clone(), metrics.clone());
            async move {
                metrics::accept(listener, metrics, stop).await;
                Ok(())
            }
        });
        self.address
    }
}

/// Where what this server keeps lies on this machine: what it writes by itself, its database if that is a file, and the
/// folders for files, those for files on their way to other machines included.
fn places(config: &Config) -> Vec<(String, PathBuf)> {
    let data_dir = &config.server.data_dir;
    let mut places = vec![
        ("data".to_owned(), data_dir.clone()),
        ("files".to_owned(), config.media.path(data_dir)),
    ];
    let url = config.database.url(data_dir);
    if let Some(file) = url.strip_prefix("sqlite:") {
        let file = file.strip_prefix("//").unwrap_or(file);
        let file = file.split('?').next().unwrap_or_default();
        places.push(("database".to_owned(), PathBuf::from(file)));
    }
    for store in &config.media.stores {
        places.push((format!("files {}", store.name), store.folder(data_dir)));
    }
    places
}
