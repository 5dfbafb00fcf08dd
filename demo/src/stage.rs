//! Two servers that federate over TLS on this machine, and what they need.

use anyhow::Context as _;
use rhizome_storage::Scratch;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::{Authority, Homeserver, Site};

/// The two servers.
pub(crate) struct Stage<H: Homeserver> {
    pub(crate) north: Site<H>,
    pub(crate) south: Site<H>,
    schemas: Vec<Scratch>,
    /// Last, so that it goes last.
    dir: TempDir,
}

impl<H: Homeserver> Stage<H> {
    /// Starts both, each with data of its own: in schemas of a PostgreSQL database, or in SQLite files.
    pub(crate) async fn set(postgres: Option<String>) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("rhizome-demo-").tempdir()?;
        let mut schemas = Vec::new();
        let sites = async {
            let authority = Authority::create(dir.path())?;
            let mut urls = [None, None];
            if let Some(server) = postgres {
                for url in &mut urls {
                    let schema = Scratch::create(&server, "rhizome_demo")
                        .await
                        .context("a schema for the demo can't be made in the PostgreSQL given")?;
                    *url = Some(schema.url().to_owned());
                    schemas.push(schema);
                }
            }
            let [first, second] = urls;
            let (north, south) = (dir.path().join("north"), dir.path().join("south"));
            let north = Site::start(&authority, &north, first);
            let south = Site::start(&authority, &south, second);
            tokio::try_join!(north, south)
        };
        match sites.await {
            Ok((north, south)) => Ok(Self {
                north,
                south,
                schemas,
                dir,
            }),
            Err(error) => {
                remove(schemas).await?;
                Err(error)
            }
        }
    }

    /// What the servers keep their data in.
    pub(crate) fn database(&self) -> &'static str {
        if self.schemas.is_empty() {
            "SQLite"
        } else {
            "PostgreSQL"
        }
    }

    /// What a client needs to know of the two.
    pub(crate) fn addresses(&self) -> Value {
        let of = |site: &Site<H>| json!({ "name": site.name(), "url": site.base() });
        json!({ "north": of(&self.north), "south": of(&self.south) })
    }

    /// Stops both and removes everything.
    pub(crate) async fn clear(mut self) -> anyhow::Result<()> {
        tokio::join!(self.north.stop(), self.south.stop());
        remove(self.schemas).await?;
        self.dir.close().context("the demo's directory is left")
    }
}

async fn remove(schemas: Vec<Scratch>) -> anyhow::Result<()> {
    for schema in schemas {
        schema
            .remove()
            .await
            .context("a schema of the demo is left in the PostgreSQL given")?;
    }
    Ok(())
}

/// Waits until somebody wants this process to end; from now on that doesn't end it by itself.
pub(crate) fn stopped() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
