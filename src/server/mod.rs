//! One running server: storage, rooms, federation, the client API, listeners and tasks, in that
//! order; and its stop, in the other.

mod appservices;
mod delayed;
mod key_watch;
mod listening;
mod mailing;
mod metrics;
pub(crate) mod old_keys;
mod pushing;
mod rates;
mod readers;
mod registration;
mod secret_file;
mod settings;
pub(crate) mod signing_key;

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rhizome_appservice::Services;
use rhizome_client_api as client_api;
use rhizome_decoder::Decoders;
use rhizome_edge::Api as _;
use rhizome_federation::{Federation, previews::Previews};
use rhizome_media::Media;
use rhizome_rooms::Rooms;
use rhizome_storage::collect::{self, Collecting};
use rhizome_storage::{Options, PresenceOptions, Store};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::http::Routers;
use crate::tasks::Tasks;
use crate::tls::Certificate;

pub(crate) use settings::{decoders, federation as federation_config, media as media_config};

/// How often a database file is asked what the operator's commands have written into it.
const OUTSIDE_INTERVAL: Duration = Duration::from_secs(1);

/// A server that runs. [`Running::shutdown`] stops it; a mere drop leaves its tasks running.
pub struct Running {
    addresses: Vec<SocketAddr>,
    metrics: Option<SocketAddr>,
    store: Store,
    rooms: Rooms,
    federation: Federation,
    media: Media,
    config: Arc<Config>,
    certificates: Vec<Arc<Certificate>>,
    registrations: appservices::Reloading,
    new_key: bool,
    stop: CancellationToken,
    kill: CancellationToken,
    /// Another process has a newer signing key, and this one's is over.
    outdated: CancellationToken,
    connections: TaskTracker,
    /// Requests that go on without their clients, of each API.
    unfinished: [TaskTracker; 2],
    tasks: Tasks,
}

/// Starts a server: when this returns, its listeners accept.
///
/// # Errors
/// What can't be used, with the remedy: an address, the signing key, the database, another server
/// name than the database was made for.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let config = Arc::new(config);
    let registrations = config.appservices.load(&config.server.name)?;
    make_data_dir(&config)?;
    let listeners = listening::bind(&config).await?;
    let metrics = metrics::bind(&config).await?;
    let key_path = config.server.signing_key_path();
    let (keys, new_key) = signing_key::load_or_create(&key_path)?;
    let store = open_store(&config).await?;
    let watch = key_watch::Watch::new(&store, &keys, &key_path);
    watch.check().await?;
    let key = Arc::new(keys.current().clone());
    let rooms = Rooms::new(store.clone(), config.server.name.clone(), key);
    let decoders = decoders(&config);
    let media = open_media(&store, &config, decoders.clone())?;
    media.claim().await.context("files can't be kept")?;
    let old_keys = old_keys::counted(&store, &keys, &config).await?;
    let mut settings = settings::federation(&config, old_keys)?;
    appservices::make_senders(&store, &registrations).await?;
    let services = Services::new(registrations);
    settings.services = Some(services.clone());
    let federation = Federation::new(rooms.clone(), store.clone(), media.clone(), settings)
        .context("federation can't be set up")?;
    let previews = Previews::new(federation.clone(), decoders, settings::previews(&config));
    let stop = CancellationToken::new();
    let kill = CancellationToken::new();
    let app = client_api::App::new(
        store.clone(),
        rooms.clone(),
        federation.clone(),
        client_api::Files::of(&federation, previews.enabled().then(|| previews.clone())),
        Arc::new(pushing::with_ways(client_config(&config), &config)?),
        stop.clone(),
    );
    reserve_names(&app).await?;
    let registrations = appservices::Reloading::new(&config, &store, &services);
    let unfinished = [app.unfinished().clone(), federation.unfinished().clone()];
    let requests = metrics.as_ref().map(|metrics| metrics.requests.clone());
    let client = client_api::router(app.clone());
    let routers = Routers::new(client, federation.router(), requests);

    let tasks = Tasks::new(stop.clone());
    let connections = TaskTracker::new();
    let metrics = metrics.map(|metrics| metrics.tell(&config, (&app, &tasks, &connections)));
    let outdated = key_watch::run(&tasks, &store, watch);
    if config.federation.enabled {
        federate(&tasks, &federation);
    }
    readers::read_log(&tasks, &store, &federation, &config);
    mailing::try_out(&tasks, app.config.mailing.clone());
    delayed::run(&tasks, &app);
    appservices::follow_commands(&tasks, &registrations);
    appservices::tell(&tasks, &app);
    pushing::notify(&tasks, app, &config);
    care_for_media(&tasks, &media, previews);
    collect(&tasks, &store, &config);
    let accepting = listening::Accepting {
        routers,
        stop: stop.clone(),
        kill: kill.clone(),
        connections: connections.clone(),
    };
    let (addresses, certificates) = listening::accept(&tasks, &config, listeners, &accepting)?;
    Ok(Running {
        addresses,
        metrics,
        store,
        rooms,
        federation,
        media,
        config,
        certificates,
        registrations,
        new_key,
        stop,
        kill,
        outdated,
        connections,
        unfinished,
        tasks,
    })
}

/// Sends to other servers, and does what is to be done for what they sent.
fn federate(tasks: &Tasks, federation: &Federation) {
    let running = federation.clone();
    tasks.supervise("federation", move |stop| {
        let federation = running.clone();
        async move { Ok(federation.run(stop.cancelled_owned()).await?) }
    });
}

/// Deletes what nothing needs any more.
fn collect(tasks: &Tasks, store: &Store, config: &Config) {
    let store = store.clone();
    let how = Collecting {
        expire_devices_after: config.server.expire_devices_after.map(|span| span.0),
        ..Collecting::default()
    };
    tasks.supervise("snapshot collector", move |stop| {
        let run = collect::run(store.clone(), how, stop);
        async move { Ok(run.await?) }
    });
}

/// Makes pictures of new files, and deletes what nobody needs of files and previews.
fn care_for_media(tasks: &Tasks, media: &Media, previews: Previews) {
    let running = media.clone();
    tasks.supervise("media", move |stop| {
        let media = running.clone();
        async move {
            media.run(stop).await;
            Ok(())
        }
    });
    let sweeping = media.clone();
    tasks.supervise("media sweep", move |stop| {
        let media = sweeping.clone();
        async move {
            media.sweep_now_and_then(stop).await;
            Ok(())
        }
    });
    tasks.supervise("previews", move |stop| {
        let previews = previews.clone();
        async move {
            previews.run(stop).await;
            Ok(())
        }
    });
}

/// Opens the places where files lie. `decoders`: one for all that decode, as their number is what is bounded.
///
/// # Errors
/// One can't be used.
pub(crate) fn open_media(
    store: &Store,
    config: &Config,
    decoders: Decoders,
) -> anyhow::Result<Media> {
    Media::open(store.clone(), settings::media(config)?, Arc::new(decoders))
        .context("files can't be kept; see media.path and media.stores in the configuration")
}

/// Makes the data directory if it isn't there, closed to other users: it holds hashes of passwords
/// and everybody's messages.
pub(crate) fn make_data_dir(config: &Config) -> anyhow::Result<()> {
    let path = &config.server.data_dir;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).with_context(|| {
        format!(
            "the data directory {} can't be made; set server.data_dir to a place that this user may write to",
            path.display()
        )
    })
}

impl Running {
    /// The addresses of the listeners, in the order of the configuration; port 0 is resolved.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of the listener of metrics, if there is one; port 0 is resolved.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The rooms.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Other servers.
    pub fn federation(&self) -> &Federation {
        &self.federation
    }

    /// Files.
    pub fn media(&self) -> &Media {
        &self.media
    }

    /// What it runs with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether this start made the signing key.
    pub fn made_key(&self) -> bool {
        self.new_key
    }

    /// Resolves when the server can't go on: its commit queue has died.
    pub async fn failed(&self) {
        self.store.queue_ended().await;
    }

    /// Resolves when this process must not go on: its signing key has been replaced, and what it signs is refused.
    pub async fn outdated(&self) {
        self.outdated.cancelled().await;
    }

    /// Reads the listeners' certificates again; one that can't be used leaves the old one in place.
    pub fn reload_certificates(&self) {
        for certificate in &self.certificates {
            match certificate.reload() {
                Ok(()) => tracing::info!("certificate read again"),
                Err(error) => tracing::error!("the old certificate stays: {error:#}"),
            }
        }
    }

    /// Reads the registrations of application services again; if something is wrong, what was so before stays.
    pub async fn reload_appservices(&self) {
        self.registrations.reload().await;
    }

    /// Stops accepting, answers long polls, waits for what is under way (at most
    /// `http.drain_timeout`), and closes the database.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.connections.close();
        let limit = self.config.http.drain_timeout.0;
        if tokio::time::timeout(limit, self.connections.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                connections = self.connections.len(),
                "still busy after {limit:?}: cut off"
            );
        }
        self.kill.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(1), self.connections.wait()).await;
        let finished = async {
            for requests in &self.unfinished {
                requests.close();
                requests.wait().await;
            }
        };
        if tokio::time::timeout(limit, finished).await.is_err() {
            tracing::warn!("requests whose clients have hung up had not ended after {limit:?}");
        }
        if !self.tasks.wait(limit).await {
            tracing::warn!("some tasks had not ended after {limit:?}");
        }
        if tokio::time::timeout(limit, self.store.close())
            .await
            .is_err()
        {
            tracing::warn!("the database was not closed after {limit:?}");
        }
    }
}

/// Sees to it that nobody else takes the names of the server's own users.
async fn reserve_names(app: &client_api::App) -> anyhow::Result<()> {
    if let Some(settings) = &app.config.notices {
        client_api::notices::speaker(&app.store, settings).await?;
    }
    Ok(())
}

/// Opens the database and sees to it that it belongs to this server.
///
/// # Errors
/// The database can't be used, or was made for another server name.
pub async fn open_store(config: &Config) -> anyhow::Result<Store> {
    let mut options = Options::new(config.database.url(&config.server.data_dir));
    options.max_connections = config.database.max_connections;
    options.memory = usize::try_from(config.server.memory.0).unwrap_or(usize::MAX);
    options.crash_point = config.crash_point;
    options.timed = config.metrics.listen.is_some();
    options.outside_interval = Some(OUTSIDE_INTERVAL);
    options.presence = PresenceOptions {
        enabled: config.presence.enabled,
        max_room_size: config.presence.max_room_size,
    };
    let shown = config.database.url_for_display(&config.server.data_dir);
    let store = Store::open(options).await.with_context(|| {
        format!("can't open the database {shown}; see database.url in the configuration")
    })?;
    let name = config.server.name.as_str();
    let recorded = store.claim_setting("server_name", name).await?;
    if recorded != name {
        store.close().await;
        bail!(
            "the database {shown} belongs to the server `{recorded}`, but server.name is `{name}`. \
             A server's name is part of all its users, rooms and events and can't be changed: \
             set server.name = \"{recorded}\", or use another database"
        );
    }
    Ok(store)
}

/// What the client API needs to know.
pub fn client_config(config: &Config) -> client_api::ClientConfig {
    settings::client(config)
}
