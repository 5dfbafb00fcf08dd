//! Several servers in one process, each with a database of its own, and what their users do.

use std::{fmt::Write as _, future::Future, time::Duration};

use axum::Router;
use http::Method;
use rhizome_contract::Watch;
use rhizome_federation::{
    Federation, FederationConfig, MatrixError,
    fetch::backfill,
    local,
    membership::{join, leave},
    outbound::{Limits, OutboundError},
    testing::Network,
};
use rhizome_protocol::{Membership, Object, Pdu, draft::Draft};
use rhizome_rooms::{
    create::{
        create,
        plan::{CreateRoom, Preset},
    },
    membership::{self, Action, MembershipChange},
    send::SendOptions,
};
pub use rhizome_storage::testing::eventually;
use rhizome_storage::{NewAccount, Pos, Store, StoredEvent, testing::TestDatabase};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, UserId,
};
use serde_json::{Value, json, value::RawValue};
use std::{collections::BTreeMap, sync::Arc};
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
        on(postgres, count, true, &story).await;
    }
}

/// Tells a story with servers that send nothing and work on no inbox by themselves, on SQLite.
pub async fn still<F, R>(count: usize, story: F)
where
    F: Fn(Arc<World>) -> R,
    R: Future<Output = ()>,
{
    on(false, count, false, &story).await;
}

async fn on<F, R>(postgres: bool, count: usize, running: bool, story: &F)
where
    F: Fn(Arc<World>) -> R,
    R: Future<Output = ()>,
{
    let network = Network::default();
    let mut databases = Vec::new();
    let mut servers = Vec::new();
    for index in 0..count {
        let database = if postgres {
            TestDatabase::postgres().await
        } else {
            TestDatabase::sqlite()
        };
        let store = database.open().await;
        let mut server = Server::new(&network, store, index);
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

    /// One with settings of its own.
    pub fn with(network: &Network, store: Store, index: usize, config: FederationConfig) -> Self {
        let letter = char::from(b'a' + u8::try_from(index).unwrap());
        let name = format!("{letter}.example");
        let rooms = rooms(&store, &name, key(u8::try_from(index).unwrap() + 1));
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
        *self = Self::new(network, database.open().await, index);
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

    /// A public room.
    pub async fn create(&self, creator: &UserId, version: &RoomVersionId) -> OwnedRoomId {
        self.create_with(creator, version, Preset::PublicChat).await
    }

    /// A public room in the directory.
    pub async fn create_listed(&self, creator: &UserId, version: &RoomVersionId) -> OwnedRoomId {
        let request = CreateRoom {
            public: true,
            ..Self::request_of(creator, version, Preset::PublicChat)
        };
        create(self.fed.rooms(), &request).await.unwrap().room_id
    }

    pub async fn create_with(
        &self,
        creator: &UserId,
        version: &RoomVersionId,
        preset: Preset,
    ) -> OwnedRoomId {
        let request = Self::request_of(creator, version, preset);
        create(self.fed.rooms(), &request).await.unwrap().room_id
    }

    /// A request for a room with nothing special about it.
    pub fn request_of(creator: &UserId, version: &RoomVersionId, preset: Preset) -> CreateRoom {
        CreateRoom {
            creator: creator.to_owned(),
            creator_profile: Object::new(),
            version: version.clone(),
            public: false,
            preset,
            name: Some("A room".to_owned()),
            topic: None,
            alias: None,
            creation_content: Object::new(),
            initial_state: Vec::new(),
            power_level_content_override: Object::new(),
            invite: Vec::new(),
            is_direct: false,
        }
    }

    pub async fn join(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &Server,
    ) -> Result<OwnedRoomId, MatrixError> {
        join::join(
            &self.fed,
            user,
            room.into(),
            std::slice::from_ref(&via.name),
            Object::new(),
        )
        .await
    }

    pub async fn leave(&self, user: &UserId, room: &RoomId) -> Result<(), MatrixError> {
        leave::leave(&self.fed, user, room, Some("bye".to_owned())).await
    }

    /// Invite, kick, ban, unban.
    pub async fn change(
        &self,
        sender: &UserId,
        room: &RoomId,
        target: &UserId,
        action: Action,
    ) -> Result<(), MatrixError> {
        let change = MembershipChange {
            room_id: room.to_owned(),
            sender: sender.to_owned(),
            target: target.to_owned(),
            action,
            reason: None,
            extra: Object::new(),
        };
        if let Some(draft) = membership::prepare(self.fed.rooms(), change).await? {
            local::send(&self.fed, draft, SendOptions::default()).await?;
        }
        Ok(())
    }

    pub async fn send(
        &self,
        sender: &UserId,
        room: &RoomId,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Result<OwnedEventId, MatrixError> {
        let draft = Draft {
            room_id: Some(room.to_owned()),
            sender: sender.to_owned(),
            kind: kind.to_owned(),
            state_key: state_key.map(ToOwned::to_owned),
            content: content.as_object().unwrap().clone(),
            redacts: None,
        };
        Ok(local::send(&self.fed, draft, SendOptions::default())
            .await?
            .event_id)
    }

    pub async fn say(&self, sender: &UserId, room: &RoomId, text: &str) -> OwnedEventId {
        let content = json!({ "msgtype": "m.text", "body": text });
        self.send(sender, room, "m.room.message", None, content)
            .await
            .unwrap()
    }

    pub async fn event(&self, id: &EventId) -> Option<Arc<StoredEvent>> {
        self.store().event(id).await.unwrap()
    }

    /// The texts of the room's live messages, oldest first.
    pub async fn heard(&self, room: &RoomId) -> Vec<String> {
        let Some(head) = self.store().room(room).await.unwrap() else {
            return Vec::new();
        };
        let upto = self.store().log().head();
        let events = self
            .store()
            .room_timeline(head.room, Pos(0), upto, 1000)
            .await
            .unwrap();
        events
            .iter()
            .filter_map(|event| Some(event.pdu.content().get("body")?.as_str()?.to_owned()))
            .collect()
    }

    /// The current state: key → event.
    pub async fn state(&self, room: &RoomId) -> BTreeMap<(String, String), OwnedEventId> {
        let Some(head) = self.store().room(room).await.unwrap() else {
            return BTreeMap::new();
        };
        let Some(snapshot) = head.snapshot else {
            return BTreeMap::new();
        };
        let entries = self.store().state_all(snapshot).await.unwrap();
        let numbers: Vec<_> = entries.iter().map(|(_, event)| *event).collect();
        let events = self.store().events_by_no(&numbers).await.unwrap();
        events
            .iter()
            .map(|event| {
                let key = (
                    event.pdu.kind().to_owned(),
                    event.pdu.state_key().unwrap().to_owned(),
                );
                (key, event.pdu.event_id().to_owned())
            })
            .collect()
    }

    pub async fn membership(&self, room: &RoomId, user: &UserId) -> Option<Membership> {
        let user = self.store().known_user(user).await.unwrap()?;
        let room = self.store().known_room(room).await.unwrap()?;
        Some(
            self.store()
                .membership(user, room)
                .await
                .unwrap()?
                .membership,
        )
    }

    pub async fn backfill(&self, room: &RoomId, limit: usize) -> bool {
        let no = self.store().known_room(room).await.unwrap().unwrap();
        let missing = self.store().missing_prev_events(no, 10).await.unwrap();
        let holes: Vec<_> = missing.into_iter().map(|(id, _)| id).collect();
        backfill::before(&self.fed, room, &holes, limit)
            .await
            .unwrap()
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
