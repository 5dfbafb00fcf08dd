//! Servers for flow tests: real listeners, TLS between them, a database of their own each.
//!
//! ```ignore
//! let pair = Pair::start(Kind::Sqlite).await;
//! let ada = pair.north.register("ada").await;
//! let bea = pair.south.register("bea").await;
//! let room = ada.create_room(json!({ "preset": "public_chat" })).await.unwrap();
//! bea.join(&room, &[pair.north.name()]).await.unwrap();
//! pair.stop().await;
//! ```

use std::future::Future;

use rhizome::config::Config;
use rhizome::server::Running;
use rhizome_demo::{Authority, Person, Site, http_client};
use rhizome_storage::testing::TestDatabase;
use tempfile::TempDir;

use crate::front::Front;

/// The password of everybody that [`Server::register`] makes.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    async fn database(self) -> TestDatabase {
        match self {
            Self::Sqlite => TestDatabase::sqlite(),
            Self::Postgres => TestDatabase::postgres().await,
        }
    }
}

/// The tests' own program isn't one that could be started to decode pictures.
pub(crate) fn decode_here(config: &mut Config) {
    config.media.decode_in_process = true;
}

/// Push gateways are on this machine.
fn push_here(config: &mut Config) {
    config.push.allow_http = true;
    config.push.allowed_ranges = config.federation.allowed_ranges.clone();
}

/// One homeserver. `site` stops and starts it, and tells its addresses.
pub(crate) struct Server {
    pub(crate) site: Site<Running>,
    pub(crate) http: reqwest::Client,
    front: Front,
    database: TestDatabase,
    dir: TempDir,
}

impl Server {
    /// A server that no other trusts.
    pub(crate) async fn start(kind: Kind) -> Self {
        Self::start_with(kind, |_| {}).await
    }

    /// The same with a changed configuration.
    pub(crate) async fn start_with(kind: Kind, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path()).unwrap();
        Self::start_in(&authority, dir, kind, change).await
    }

    async fn start_in(
        authority: &Authority,
        dir: TempDir,
        kind: Kind,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let database = kind.database().await;
        let url = Some(database.url().to_owned());
        // Boxed: it holds a whole configuration.
        let site = Box::pin(Site::start_with(authority, dir.path(), url, |config| {
            decode_here(config);
            push_here(config);
            change(config);
        }));
        let site = site.await.expect("the server starts");
        let http = http_client().unwrap();
        let front = Front::before(site.base(), http.clone()).await;
        Self {
            site,
            http,
            front,
            database,
            dir,
        }
    }

    /// The server's name.
    pub(crate) fn name(&self) -> &str {
        self.site.name()
    }

    /// Where its database is.
    pub(crate) fn database_url(&self) -> &str {
        self.database.url()
    }

    /// Makes an account and logs it in.
    pub(crate) async fn register(&self, name: &str) -> Person {
        Person::register(&self.http, self.front.base(), name, PASSWORD)
            .await
            .expect("registers")
    }

    /// Another session of somebody registered.
    #[expect(dead_code, reason = "for flow tests to come")]
    pub(crate) async fn login(&self, name: &str) -> Person {
        Person::login(&self.http, self.front.base(), name, PASSWORD)
            .await
            .expect("logs in")
    }

    /// Stops it and removes everything.
    pub(crate) async fn stop(mut self) {
        self.site.stop().await;
        self.front.close();
        self.database.remove().await;
        self.dir.close().unwrap();
    }
}

/// Two servers that trust one throwaway authority.
pub(crate) struct Pair {
    // On the heap: servers are large, and tests hand them on.
    pub(crate) north: Box<Server>,
    pub(crate) south: Box<Server>,
    _authority: TempDir,
}

impl Pair {
    /// Both with a database of this kind.
    pub(crate) async fn start(kind: Kind) -> Self {
        Self::start_with(kind, |_| {}).await
    }

    /// The same with a changed configuration.
    pub(crate) async fn start_with(kind: Kind, change: fn(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path()).unwrap();
        let dir_of_one = || tempfile::tempdir().unwrap();
        let one = || Box::pin(Server::start_in(&authority, dir_of_one(), kind, change));
        let (north, south) = tokio::join!(one(), one());
        Self {
            north: Box::new(north),
            south: Box::new(south),
            _authority: dir,
        }
    }

    /// Stops both and removes everything.
    pub(crate) async fn stop(self) {
        tokio::join!(Box::pin(self.north.stop()), Box::pin(self.south.stop()));
    }
}

/// Runs a flow on both databases.
pub(crate) async fn each_database<F, R>(flow: F)
where
    F: Fn(Kind) -> R,
    R: Future<Output = ()>,
{
    // On the heap: servers and their people are large.
    Box::pin(flow(Kind::Sqlite)).await;
    Box::pin(flow(Kind::Postgres)).await;
}
