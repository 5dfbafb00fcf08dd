//! Several servers in one process, each with a database of its own, and what their users do.

use std::{fmt::Write as _, future::Future, time::Duration};

use axum::Router;
use http::Method;
use rhizome_contract::Watch;
use rhizome_federation::{
    Federation, FederationConfig, MatrixError,
    outbound::{Limits, OutboundError},
    testing::Network,
};
use rhizome_media::{Media, Pictures};
use rhizome_protocol::{Membership, Pdu, sign::KeyPair};
pub use rhizome_storage::testing::eventually;
use rhizome_storage::{NewAccount, Options, PresenceOptions, Store, testing::TestDatabase};
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json, value::RawValue};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use crate::support::{key, rooms, watch};

/// All room versions.
pub const ALL_VERSIONS: [RoomVersionId; 12] = [
    RoomVersionId::V1,
    RoomVersionId::V2,
    RoomVersionId::V3,
    RoomVersionId::V4,
    RoomVersionId::V5,
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// The versions that every story about rooms is told in: one of each form of events and ids.
pub const VERSIONS: [RoomVersionId; 4] = [
    RoomVersionId::V1,
    RoomVersionId::V3,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// Who has an account on every server of a world: only they can be invited from elsewhere.
const RESIDENTS: [&str; 9] = [
    "alice", "ann", "anna", "bea", "ben", "bob", "carl", "carol", "dora",
];

/// Servers `a.example`, `b.example`, … on one network.
pub struct World {
    pub network: Network,
    servers: Vec<Server>,
}

/// One of them.
pub struct Server {
    pub fed: Federation,
    pub name: OwnedServerName,
    pub stop: CancellationToken,
    watch: Watch,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// Tells a story with `count` running servers, on SQLite and on PostgreSQL.
pub async fn each<F, R>(count: usize, story: F)
where
    F: Fn(Arc<World>) -> R,
    R: Future<Output = ()>,
{
    for postgres in [false, true] {
        on(postgres, count, (true, Server::config()), &story).await;
    }
}

/// The same with servers that join rooms before their members are known.
pub async fn each_joining_early<F, R>(count: usize, story: F)
where
    F: Fn(Arc<World>) -> R,
    R: Future<Output = ()>,
{
    each_as(count, Server::early(), story).await;
}

/// The same with servers of these settings.
pub async fn each_as<F, R>(count: usize, config: FederationConfig, story: F)
where
    F: Fn(Arc<World>) -> R,
    R: Future<Output = ()>,
{
    for postgres in [false, true] {
        on(postgres, count, (true, config.clone()), &story).await;
    }
}

/// Tells a story with servers that send nothing and work on no inbox by themselves, on SQLite.
pub async fn still<F, R>(count: usize, story: F)
where
    F: Fn(Arc<World>) -> R,
    R: Future<Output = ()>,
{
    on(false, count, (false, Server::config()), &story).await;
}

async fn on<F, R>(
    postgres: bool,
    count: usize,
    (running, config): (bool, FederationConfig),
    story: &F,
) where
    F: Fn(Arc<World>) -> R,
    R: Future<Output = ()>,
{
    let network = Network::default();
    let mut databases = Vec::new();
    let mut servers = Vec::new();
    for index in 0..count {
        let database = TestDatabase::new(postgres).await;
        let options = Options {
            presence: PresenceOptions {
                enabled: true,
                ..PresenceOptions::default()
            },
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        let mut server = Server::with(&network, store, index, config.clone());
        server.settle().await;
        if running {
            server.run();
        }
        servers.push(server);
        databases.push(database);
    }
    let world = Arc::new(World { network, servers });
    story(Arc::clone(&world)).await;
    for server in &world.servers {
        server.stop.cancel();
    }
    let world = Arc::into_inner(world).expect("the story keeps nothing");
    for server in world.servers {
        server.end().await;
    }
    for database in databases {
        database.remove().await;
    }
}

impl World {
    pub fn server(&self, index: usize) -> &Server {
        &self.servers[index]
    }

    pub fn two(&self) -> (&Server, &Server) {
        (&self.servers[0], &self.servers[1])
    }
}

impl Server {
    pub fn new(network: &Network, store: Store, index: usize) -> Self {
        Self::with(network, store, index, Self::config())
    }

    /// The settings of servers here: little patience.
    pub fn config() -> FederationConfig {
        FederationConfig {
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_millis(200),
            request_timeout: Duration::from_secs(10),
            invites: None,
            ..FederationConfig::default()
        }
    }

    /// The same, of servers that join rooms before their members are known.
    pub fn early() -> FederationConfig {
        FederationConfig {
            partial_joins: true,
            ..Self::config()
        }
    }

    /// One with settings of its own.
    pub fn with(network: &Network, store: Store, index: usize, config: FederationConfig) -> Self {
        let key = key(u8::try_from(index).unwrap() + 1);
        Self::signing(network, store, index, key, config)
    }

    /// The same with another signing key.
    pub fn signing(
        network: &Network,
        store: Store,
        index: usize,
        key: KeyPair,
        config: FederationConfig,
    ) -> Self {
        let letter = char::from(b'a' + u8::try_from(index).unwrap());
        let name = format!("{letter}.example");
        let rooms = rooms(&store, &name, key);
        let fed = Federation::in_process(rooms, store, config, network).unwrap();
        let name: OwnedServerName = name.try_into().unwrap();
        let watch = watch();
        network.attach(&name, watch.over(fed.router()));
        Self {
            fed,
            name,
            stop: CancellationToken::new(),
            watch,
            task: None,
        }
    }

    /// The same server with folders of its own, which makes pictures; others reach it from now on.
    pub fn with_pictures(&self, network: &Network, pictures: Arc<dyn Pictures>) -> Federation {
        let media = network.media(self.fed.rooms(), self.store(), pictures);
        self.with_media(network, media)
    }

    /// The same server with other files; others reach it from now on.
    pub fn with_media(&self, network: &Network, media: Media) -> Federation {
        let (rooms, store) = (self.fed.rooms().clone(), self.store().clone());
        let config = Self::config();
        let fed = Federation::in_process_with(rooms, store, media, config, network).unwrap();
        network.attach(&self.name, self.watch.over(fed.router()));
        fed
    }

    /// What looks at what it is asked.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// What others reach it by.
    pub fn router(&self) -> Router {
        self.watch.over(self.fed.router())
    }

    /// Gives the residents their accounts.
    async fn settle(&self) {
        for name in RESIDENTS {
            let made = self
                .store()
                .create_account(&self.user(name), NewAccount::default(), None)
                .await;
            assert!(made.unwrap().is_some());
        }
    }

    /// The same server after a restart: new caches, new tasks, the same database.
    pub async fn restart(&mut self, network: &Network, database: &TestDatabase, index: usize) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            task.await.unwrap();
        }
        self.fed.store().close().await;
        let config = self.fed.config().clone();
        *self = Self::with(network, database.open().await, index, config);
        self.run();
    }

    /// Starts the sender and the inbox.
    pub fn run(&mut self) {
        let (fed, stop) = (self.fed.clone(), self.stop.clone());
        self.task = Some(tokio::spawn(async move {
            fed.run(async move { stop.cancelled().await })
                .await
                .unwrap();
        }));
    }

    /// Stops what runs and closes the database.
    pub async fn end(self) {
        self.stop.cancel();
        if let Some(task) = self.task {
            task.await.unwrap();
        }
        self.fed.store().close().await;
        self.watch.assert_kept();
    }

    pub fn store(&self) -> &Store {
        self.fed.store()
    }

    pub fn user(&self, localpart: &str) -> OwnedUserId {
        format!("@{localpart}:{}", self.name).try_into().unwrap()
    }

    /// A signed request to another server; the answer's JSON.
    pub async fn request(
        &self,
        to: &Server,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, MatrixError> {
        let body = body.map(|body| RawValue::from_string(body.to_string()).unwrap());
        let answer = self
            .fed
            .outbound()
            .call(&to.name, method, path, body.as_deref(), Limits::default())
            .await;
        match answer {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap()),
            Err(OutboundError::Remote(error)) => Err(error),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    pub async fn get(&self, to: &Server, path: &str) -> Result<Value, MatrixError> {
        self.request(to, Method::GET, path, None).await
    }

    /// A transaction of these events to another server; what it tells about each.
    pub async fn transaction(
        &self,
        to: &Server,
        txn: &str,
        pdus: &[Value],
        edus: &[Value],
    ) -> Value {
        let body = json!({
            "origin": self.name,
            "origin_server_ts": 1,
            "pdus": pdus,
            "edus": edus,
        });
        let path = format!("/_matrix/federation/v1/send/{txn}");
        self.request(to, Method::PUT, &path, Some(body))
            .await
            .unwrap()["pdus"]
            .clone()
    }
}

/// An event's JSON.
pub fn json_of(pdu: &Pdu) -> Value {
    serde_json::from_str(pdu.json()).unwrap()
}

/// A public room of the first one's in which all these are and know of each other.
pub async fn room_of(people: &[(&Server, &UserId)]) -> OwnedRoomId {
    let (host, creator) = people[0];
    let room = host.create(creator, &RoomVersionId::V11).await;
    for (server, guest) in &people[1..] {
        server.join(guest, &room, host).await.unwrap();
    }
    eventually("all know of all", async || {
        for (server, _) in people {
            for (_, who) in people {
                if server.membership(&room, who).await != Some(Membership::Join) {
                    return false;
                }
            }
        }
        true
    })
    .await;
    room
}

/// Waits until two servers have the same state of the room.
pub async fn same_state(a: &Server, b: &Server, room: &RoomId) {
    eventually("the same state", async || {
        a.state(room).await == b.state(room).await
    })
    .await;
}

/// Percent-encodes an id for a path.
pub fn enc(id: impl AsRef<str>) -> String {
    let mut out = String::new();
    for byte in id.as_ref().bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").unwrap();
        }
    }
    out
}
