//! A whole server. It has threads of its own, so that it can be killed: they end wherever they stand.

use std::{future::pending, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
};
use bytes::Bytes;
use http::Request;
use rhizome_client_api::{App, ClientConfig, Files, config::Registration, router};
use rhizome_contract::Watch;
use rhizome_federation::{Federation, FederationConfig, testing::Network};
use rhizome_media::{Media, MediaConfig, NoPictures};
use rhizome_protocol::sign::KeyPair;
use rhizome_rooms::Rooms;
use rhizome_storage::{
    Clock, Dialect, Options, Store,
    testing::{TestDatabase, soon},
};
use ruma::OwnedServerName;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::{JoinHandle, spawn_blocking},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{
    panics,
    story::{Joins, server_name},
    weather::Weather,
};

/// How long threads are waited for that have to end: much longer than any of their work takes.
const END: Duration = Duration::from_secs(20);

/// A server of a story: what outlives it when it is killed, and what runs.
pub struct Site {
    pub name: OwnedServerName,
    pub clock: Clock,
    index: u8,
    joins: Joins,
    /// What its threads are called, but for the number of its life.
    title: String,
    database: TestDatabase,
    files: TempDir,
    lives: u32,
    running: Option<Running>,
    /// What its threads have died of.
    died: Vec<String>,
}

struct Running {
    threads: Threads,
    title: String,
    store: Store,
    router: Router,
    watch: Watch,
}

/// What a client was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub bytes: Bytes,
}

impl Answer {
    pub fn is_ok(&self) -> bool {
        self.status == 200
    }

    /// Its JSON; `Null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    /// In a few words.
    pub fn told(&self) -> String {
        let code = self.json()["errcode"].as_str().unwrap_or("").to_owned();
        format!("{} {code}", self.status).trim_end().to_owned()
    }
}

/// The threads of a server.
struct Threads(Option<Runtime>);

impl Threads {
    fn new(title: &str) -> Self {
        let made = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(title)
            .enable_all()
            .build();
        Self(Some(made.unwrap()))
    }

    fn handle(&self) -> &Handle {
        self.0.as_ref().unwrap().handle()
    }

    /// Ends them; nothing of what they did is under way any more.
    async fn end(mut self) {
        if let Some(threads) = self.0.take() {
            let ended = spawn_blocking(move || threads.shutdown_timeout(END)).await;
            ended.unwrap();
        }
    }
}

/// In a story that has failed nobody waits for them.
impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

impl Site {
    /// A server that doesn't run yet, whose clock shows `now_ms`.
    pub async fn new(
        index: usize,
        story: &str,
        now_ms: i64,
        (postgres, joins): (bool, Joins),
    ) -> Self {
        let name = server_name(index);
        let database = Box::pin(TestDatabase::new(postgres)).await;
        Self {
            title: format!("{story}, {name}"),
            name: name.try_into().unwrap(),
            clock: Clock::manual(now_ms),
            index: u8::try_from(index).unwrap(),
            joins,
            database,
            files: tempfile::tempdir().unwrap(),
            lives: 0,
            running: None,
            died: Vec::new(),
        }
    }

    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// It starts, with nothing but its database and its files.
    pub async fn start(&mut self, network: &Network, weather: &Weather) {
        self.lives += 1;
        let title = format!("{}, life {}", self.title, self.lives);
        let threads = Threads::new(&title);
        let options = Options {
            clock: self.clock.clone(),
            ..self.database.options()
        };
        let files = self.files.path().to_owned();
        let name = self.name.clone();
        let (who, of_story) = ((self.index, name, self.joins), network.clone());
        let its = threads.handle().clone();
        let making = move || its.block_on(make(who, options, files, of_story));
        let (store, app) = spawn_blocking(making).await.unwrap();
        let (watch, federation) = (Watch::unrecorded(), app.federation.clone());
        network.attach(&self.name, watch.over(federation.router()));
        weather.up(&self.name, threads.handle().clone());
        threads.handle().spawn(async move {
            let ended = federation.run(pending()).await;
            panic!("federation has ended: {ended:?}");
        });
        self.running = Some(Running {
            threads,
            title,
            store,
            router: watch.over(router(app)),
            watch,
        });
    }

    /// It ends without a word: what it had in memory is gone. Whether it ran.
    pub async fn kill(&mut self, network: &Network, weather: &Weather) -> bool {
        self.check();
        let Some(running) = self.running.take() else {
            return false;
        };
        weather.down(&self.name);
        network.detach(&self.name);
        let Running {
            threads,
            title,
            store,
            router,
            watch,
        } = running;
        drop(router);
        threads.end().await;
        if store.dialect() == Dialect::Sqlite {
            // Its threads are still to do, or to undo, what they were given last; then nobody has the file.
            soon("the file is closed", store.close()).await;
        }
        drop(store);
        // Of what is said or dies as its threads end nobody would have heard.
        std::mem::forget(watch);
        panics::take(&title);
        true
    }

    /// It is over, and its database isn't needed any more.
    pub async fn end(mut self, network: &Network, weather: &Weather) {
        self.kill(network, weather).await;
        Box::pin(self.database.remove()).await;
    }

    /// Fails when it has said what the specification doesn't let it say, such as 500.
    #[track_caller]
    fn check(&mut self) {
        if let Some(running) = &self.running {
            self.died.extend(panics::take(&running.title));
            running.watch.assert_kept();
        }
    }

    /// The same; gives what its threads have died of.
    #[track_caller]
    pub fn died(&mut self) -> &[String] {
        self.check();
        &self.died
    }

    /// It is asked something; `None`: it isn't up.
    pub fn serve(&self, request: Request<Body>) -> Option<JoinHandle<Answer>> {
        let running = self.running.as_ref()?;
        let router = running.router.clone();
        let serving = async move {
            let answer = router.oneshot(request).await;
            let (head, body) = answer.unwrap_or_else(|never| match never {}).into_parts();
            Answer {
                status: head.status.as_u16(),
                bytes: to_bytes(body, usize::MAX).await.unwrap_or_default(),
            }
        };
        Some(running.threads.handle().spawn(serving))
    }

    /// Looks into its database; `None`: it isn't up.
    pub async fn look<T, F>(&self, what: impl FnOnce(Store) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let running = self.running.as_ref()?;
        let looking = what(running.store.clone());
        let looked = running.threads.handle().spawn(looking).await;
        Some(looked.unwrap())
    }
}

/// A server on its database, which does nothing by itself yet.
async fn make(
    (index, name, joins): (u8, OwnedServerName, Joins),
    options: Options,
    files: PathBuf,
    network: Network,
) -> (Store, App) {
    let store = Store::open(options).await.unwrap();
    let key = KeyPair::from_seed("chaos", &[40 + index; 32]).unwrap();
    let rooms = Rooms::new(store.clone(), name.clone(), Arc::new(key));
    let media = MediaConfig::new(name.clone(), files);
    let media = Media::open(store.clone(), media, Arc::new(NoPictures)).unwrap();
    let mut settings = FederationConfig {
        invites: None,
        retry_min: Duration::from_secs(1),
        retry_max: Duration::from_secs(30),
        request_timeout: Duration::from_secs(10),
        join_timeout: Duration::from_secs(20),
        partial_joins: joins == Joins::Partial,
        ..FederationConfig::default()
    };
    settings.rate_limits.enabled = false;
    let (of_rooms, of_store) = (rooms.clone(), store.clone());
    let federation = Federation::in_process_with(of_rooms, of_store, media, settings, &network);
    let federation = federation.unwrap();
    let mut config = ClientConfig::new(name);
    config.registration = Registration::Open;
    config.rate_limits.enabled = false;
    config.password_cost.memory_kib = 64;
    config.password_cost.passes = 1;
    let files = Files::of(&federation, None);
    let (config, stop) = (Arc::new(config), CancellationToken::new());
    let app = App::new(store.clone(), rooms, federation, files, config, stop);
    (store, app)
}
