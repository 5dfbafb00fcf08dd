//! A server without sockets, and users who talk to it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{Router, body::Body};
use http::{Method, Request, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rhizome_client_api::{App, ClientConfig, Files, config::Registration, router};
use rhizome_contract::Watch;
use rhizome_federation::{Federation, FederationConfig, testing::Network};
use rhizome_media::{Media, MediaConfig, NoPictures};
use rhizome_protocol::sign::KeyPair;
use rhizome_rooms::Rooms;
use rhizome_storage::{
    Store,
    testing::{each_database, eventually},
};
use ruma::{ServerName, server_name};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::telling::{changes_profile, tell_rooms};

/// Runs a story with a fresh server on SQLite, then on PostgreSQL.
pub async fn story<F, R>(tell: F)
where
    F: Fn(Server) -> R,
    R: Future<Output = ()>,
{
    each_database(|store| tell(Server::new(store))).await;
}

/// A server.
#[derive(Clone)]
pub struct Server {
    pub store: Store,
    pub router: Router,
    pub federation: Federation,
    pub app: App,
    pub shutdown: CancellationToken,
    watch: Watch,
    /// Requests that go on without their clients.
    pub unfinished: TaskTracker,
    /// Where its files are; it goes with the last of its clones.
    _folder: Arc<TempDir>,
}

/// The next transaction of anybody's: of several servers one may stand for another that has ended, or is on the same database.
static TXN: AtomicU64 = AtomicU64::new(0);

/// The files of a server, in a folder that goes with it.
pub fn files(store: &Store, name: &ServerName) -> (Files, Arc<TempDir>) {
    let folder = tempfile::tempdir().unwrap();
    let config = MediaConfig::new(name.to_owned(), folder.path());
    let media = Media::open(store.clone(), config, Arc::new(NoPictures)).unwrap();
    (Files::alone(media), Arc::new(folder))
}

/// Looks at what a server of these tests is asked and answers.
pub fn watch() -> Watch {
    Watch::new("client-api")
}

impl Server {
    pub fn new(store: Store) -> Server {
        Server::with(store, |_| {})
    }

    /// A server with some settings of its own.
    pub fn with(store: Store, change: impl FnOnce(&mut ClientConfig)) -> Server {
        Server::on(store, &Network::default(), change)
    }

    /// The same on a network with others.
    pub fn on(store: Store, network: &Network, change: impl FnOnce(&mut ClientConfig)) -> Server {
        Server::named(server_name!("here"), 7, store, network, change)
    }

    /// One of several servers on a network.
    pub fn named(
        name: &ServerName,
        seed: u8,
        store: Store,
        network: &Network,
        change: impl FnOnce(&mut ClientConfig),
    ) -> Server {
        let federation = FederationConfig::default();
        Server::federating(name, seed, store, network, federation, change)
    }

    /// The same with settings about the others.
    pub fn federating(
        name: &ServerName,
        seed: u8,
        store: Store,
        network: &Network,
        federation: FederationConfig,
        change: impl FnOnce(&mut ClientConfig),
    ) -> Server {
        let name = name.to_owned();
        let key = Arc::new(KeyPair::from_seed("test", &[seed; 32]).unwrap());
        let rooms = Rooms::new(store.clone(), name.clone(), key);
        let federation =
            Federation::in_process(rooms.clone(), store.clone(), federation, network).unwrap();
        let watch = watch();
        network.attach(&name, watch.over(federation.router()));
        let (files, folder) = files(&store, &name);
        let mut config = ClientConfig::new(name);
        config.registration = Registration::Open;
        // Or it would be in every member's event.
        config.registration_rules.nameless = true;
        config.rate_limits.enabled = false;
        config.password_cost.memory_kib = 64;
        config.password_cost.passes = 1;
        change(&mut config);
        let shutdown = CancellationToken::new();
        let app = App::new(
            store.clone(),
            rooms,
            federation.clone(),
            files,
            Arc::new(config),
            shutdown.clone(),
        );
        Server {
            store,
            unfinished: app.unfinished.clone(),
            router: watch.over(router(app.clone())),
            app,
            federation,
            shutdown,
            watch,
            _folder: folder,
        }
    }

    /// What it answers other servers.
    pub fn watched_federation(&self) -> Router {
        self.watch.over(self.federation.router())
    }

    /// Makes a request and reads its answer.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let (before, changes) = (self.store.log().head(), changes_profile(&method, path));
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let response = self
            .router
            .clone()
            .oneshot(request.body(body).unwrap())
            .await
            .unwrap();
        self.watch.assert_kept();
        if changes {
            tell_rooms(&self.app, before).await;
        }
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 26)
            .await
            .unwrap();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| panic!("{path}: {error}: {}", String::from_utf8_lossy(&bytes)));
        (status, value)
    }

    /// A new user, logged in.
    pub async fn register(&self, name: &str) -> User {
        let body = json!({"username": name, "password": "a good password", "auth": {"type": "m.login.dummy"}});
        let (status, answer) = self
            .request(
                Method::POST,
                "/_matrix/client/v3/register",
                None,
                Some(body),
            )
            .await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        User {
            server: self.clone(),
            id: answer["user_id"].as_str().unwrap().to_owned(),
            token: answer["access_token"].as_str().unwrap().to_owned(),
        }
    }
}

/// A logged-in device of a user.
#[derive(Clone)]
pub struct User {
    pub server: Server,
    pub id: String,
    pub token: String,
}

/// Escapes a part of a path or query.
pub fn esc(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl User {
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        self.server
            .request(
                method,
                &format!("/_matrix/client/v3{path}"),
                Some(&self.token),
                body,
            )
            .await
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, None).await
    }

    /// A GET that must succeed.
    pub async fn read(&self, path: &str) -> Value {
        let (status, answer) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "GET {path}: {answer}");
        answer
    }

    /// A request that must succeed.
    pub async fn ok(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method.clone(), path, Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{method} {path}: {answer}");
        answer
    }

    /// Logs in once more as another device.
    pub async fn another_device(&self) -> User {
        let body = json!({"type": "m.login.password", "password": "a good password",
            "identifier": {"type": "m.id.user", "user": self.id}});
        let (status, answer) = self
            .server
            .request(Method::POST, "/_matrix/client/v3/login", None, Some(body))
            .await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        User {
            token: answer["access_token"].as_str().unwrap().to_owned(),
            ..self.clone()
        }
    }

    /// A new room; gives its id.
    pub async fn create(&self, body: Value) -> String {
        self.ok(Method::POST, "/createRoom", body).await["room_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// A new room that anyone may join.
    pub async fn create_public(&self) -> String {
        self.create(json!({"preset": "public_chat"})).await
    }

    pub async fn join(&self, room: &str) {
        self.ok(
            Method::POST,
            &format!("/rooms/{}/join", esc(room)),
            json!({}),
        )
        .await;
    }

    pub async fn leave(&self, room: &str) {
        self.ok(
            Method::POST,
            &format!("/rooms/{}/leave", esc(room)),
            json!({}),
        )
        .await;
    }

    pub async fn forget(&self, room: &str) {
        self.ok(
            Method::POST,
            &format!("/rooms/{}/forget", esc(room)),
            json!({}),
        )
        .await;
    }

    pub async fn invite(&self, room: &str, user: &User) {
        self.ok(
            Method::POST,
            &format!("/rooms/{}/invite", esc(room)),
            json!({"user_id": user.id}),
        )
        .await;
    }

    /// Sends an event; gives its id.
    pub async fn send(&self, room: &str, kind: &str, content: Value) -> String {
        let txn = TXN.fetch_add(1, Ordering::Relaxed);
        let path = format!("/rooms/{}/send/{kind}/harness{txn}", esc(room));
        self.ok(Method::PUT, &path, content).await["event_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Sends a text message; gives its event's id.
    pub async fn say(&self, room: &str, text: &str) -> String {
        self.send(
            room,
            "m.room.message",
            json!({"msgtype": "m.text", "body": text}),
        )
        .await
    }

    pub async fn set_state(&self, room: &str, kind: &str, key: &str, content: Value) -> String {
        let path = format!("/rooms/{}/state/{kind}/{}", esc(room), esc(key));
        self.ok(Method::PUT, &path, content).await["event_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// `/sync` with a further query such as `&timeout=1000`.
    pub async fn sync(&self, since: Option<&str>, more: &str) -> Value {
        let since = since
            .map(|since| format!("&since={since}"))
            .unwrap_or_default();
        self.read(&format!("/sync?x=y{since}{more}")).await
    }

    /// A `/sync` that has been told everything and waits for more.
    pub async fn poll(&self, since: &str) -> JoinHandle<Value> {
        let waits = || self.server.store.counters().now().waits;
        let before = waits();
        let (user, since) = (self.clone(), since.to_owned());
        let polling = tokio::spawn(async move { user.sync(Some(&since), "&timeout=170000").await });
        eventually("the poll waits", async || waits() > before).await;
        polling
    }
}

/// The token to go on with.
pub fn next(sync: &Value) -> String {
    sync["next_batch"].as_str().unwrap().to_owned()
}

/// A filter as a query parameter.
pub fn filter(filter: &Value) -> String {
    format!("&filter={}", esc(&filter.to_string()))
}

/// The events under a path of an answer.
pub fn events<'a>(answer: &'a Value, pointer: &[&str]) -> Vec<&'a Value> {
    let list = pointer.iter().fold(answer, |value, part| &value[*part]);
    list.as_array()
        .map(|list| list.iter().collect())
        .unwrap_or_default()
}

/// The ids of a room's timeline.
pub fn timeline(sync: &Value, room: &str) -> Vec<String> {
    ids(&events(
        sync,
        &["rooms", "join", room, "timeline", "events"],
    ))
}

/// The ids of events.
pub fn ids(events: &[&Value]) -> Vec<String> {
    events
        .iter()
        .map(|event| event["event_id"].as_str().unwrap().to_owned())
        .collect()
}
