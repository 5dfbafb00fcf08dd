//! A server whose clock and settings a test holds, and answers that are to be checked: for what
//! goes wrong as well as for what goes well.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use rhizome_client_api::{
    App, ClientConfig, Files,
    config::{PasswordCost, RateLimits, Registration},
};
use rhizome_contract::Watch;
use rhizome_federation::{Federation, FederationConfig, testing::Network};
use rhizome_protocol::sign::KeyPair;
use rhizome_rooms::Rooms;
use rhizome_storage::{Clock, Options, Store, testing::TestDatabase};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{
    harness::{files, watch},
    telling::{changes_profile, tell_rooms},
};

/// What every test's server is called.
pub const SERVER: &str = "here.test";
/// What every test's clock shows at first.
pub const START_MS: i64 = 1_700_000_000_000;

/// A server.
#[derive(Clone)]
pub struct Server {
    pub app: App,
    pub clock: Clock,
    router: Router,
    watch: Watch,
    /// Where its files are; it goes with the last of its clones.
    _folder: Arc<TempDir>,
}

/// Settings for tests: open registration, cheap passwords, no rate limits, a shared secret.
pub fn config() -> ClientConfig {
    let mut config = ClientConfig::new(SERVER.try_into().expect("a server name"));
    config.registration = Registration::Open;
    config.registration_rules.nameless = true;
    config.registration_shared_secret = Some("shared".into());
    config.password_cost = PasswordCost {
        memory_kib: 64,
        passes: 1,
        concurrency: 4,
    };
    config.rate_limits = RateLimits::off();
    config
}

/// Runs `test` with a server on SQLite, then with one on PostgreSQL.
pub async fn each_server(test: impl AsyncFn(Server)) {
    each_server_with(config, test).await;
}

/// The same with other settings.
pub async fn each_server_with(config: impl Fn() -> ClientConfig, test: impl AsyncFn(Server)) {
    for database in TestDatabase::both().await {
        let clock = Clock::manual(START_MS);
        let options = Options {
            clock: clock.clone(),
            ..database.options()
        };
        let store = Store::open(options).await.expect("the store opens");
        test(Server::new(store.clone(), clock, config())).await;
        store.close().await;
        database.remove().await;
    }
}

impl Server {
    /// A server on this store.
    pub fn new(store: Store, clock: Clock, config: ClientConfig) -> Self {
        let files = files(&store, &config.server_name);
        Self::with_files(store, clock, config, files)
    }

    /// The same with files of its own, in this folder.
    pub fn with_files(
        store: Store,
        clock: Clock,
        config: ClientConfig,
        (files, folder): (Files, Arc<TempDir>),
    ) -> Self {
        let key = Arc::new(KeyPair::from_seed("test", &[7; 32]).expect("a key"));
        let rooms = Rooms::new(store.clone(), config.server_name.clone(), key);
        let network = Network::default();
        let federation = Federation::in_process(
            rooms.clone(),
            store.clone(),
            FederationConfig::default(),
            &network,
        )
        .expect("federation can be made");
        let shutdown = CancellationToken::new();
        let app = App::new(store, rooms, federation, files, Arc::new(config), shutdown);
        let watch = watch();
        Self {
            router: watch.over(rhizome_client_api::router(app.clone())),
            app,
            clock,
            watch,
            _folder: folder,
        }
    }

    /// Moves the clock on.
    pub fn advance(&self, duration: Duration) {
        self.clock.advance(duration);
    }

    /// Any request.
    pub async fn raw(&self, request: Request<Body>) -> HttpAnswer {
        let what = format!("{} {}", request.method(), request.uri());
        let before = self.app.store.log().head();
        let changes = changes_profile(request.method(), request.uri().path());
        let response = self
            .router
            .clone()
            .oneshot(request)
            .await
            .expect("infallible");
        self.watch.assert_kept();
        if changes {
            tell_rooms(&self.app, before).await;
        }
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX)
            .await
            .expect("the body is in memory");
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        HttpAnswer {
            what,
            status: parts.status,
            headers: parts.headers,
            body,
            bytes,
        }
    }

    /// A request with a body that needn't be JSON.
    pub async fn text(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: impl Into<Body>,
    ) -> HttpAnswer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.raw(request.body(body.into()).expect("a request"))
            .await
    }

    /// A request without a token.
    pub async fn ask(&self, method: Method, path: &str, body: Value) -> HttpAnswer {
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        self.text(method, path, None, body).await
    }

    /// Makes an account with password `secret` and logs it in.
    pub async fn register(&self, name: &str) -> User {
        let body = json!({
            "username": name, "password": "secret", "auth": { "type": "m.login.dummy" },
        });
        let session = self
            .ask(Method::POST, "/_matrix/client/v3/register", body)
            .await
            .ok();
        self.user_of(&session)
    }

    /// Logs in with password `secret` on a new device.
    pub async fn login(&self, name: &str) -> User {
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": name },
            "password": "secret",
        });
        let session = self
            .ask(Method::POST, "/_matrix/client/v3/login", body)
            .await
            .ok();
        self.user_of(&session)
    }

    /// The user of an answer to a login or a registration.
    pub fn user_of(&self, session: &Value) -> User {
        User {
            server: self.clone(),
            id: text(&session["user_id"]),
            token: text(&session["access_token"]),
            device: text(&session["device_id"]),
        }
    }
}

/// A user who is logged in.
#[derive(Clone)]
pub struct User {
    pub server: Server,
    pub id: String,
    pub token: String,
    pub device: String,
}

impl User {
    /// A request with the user's token; `path` is what follows `/_matrix/client/v3`, `Null` sends no
    /// body.
    pub async fn ask(&self, method: Method, path: &str, body: Value) -> HttpAnswer {
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        let path = format!("/_matrix/client/v3{path}");
        self.server
            .text(method, &path, Some(&self.token), body)
            .await
    }

    pub async fn get(&self, path: &str) -> HttpAnswer {
        self.ask(Method::GET, path, Value::Null).await
    }

    /// A request that comes from an address.
    pub async fn get_from(&self, address: &str, path: &str) -> HttpAnswer {
        let address: IpAddr = address.parse().expect("an address");
        let request = Request::builder()
            .uri(format!("/_matrix/client/v3{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .extension(ConnectInfo(SocketAddr::from((address, 1))));
        let request = request.body(Body::empty()).expect("a request");
        self.server.raw(request).await
    }

    pub async fn put(&self, path: &str, body: Value) -> HttpAnswer {
        self.ask(Method::PUT, path, body).await
    }

    pub async fn post(&self, path: &str, body: Value) -> HttpAnswer {
        self.ask(Method::POST, path, body).await
    }

    pub async fn delete(&self, path: &str, body: Value) -> HttpAnswer {
        self.ask(Method::DELETE, path, body).await
    }

    /// Creates a room and gives its id.
    pub async fn create_room(&self, body: Value) -> String {
        text(&self.post("/createRoom", body).await.ok()["room_id"])
    }

    /// Joins a room.
    pub async fn join(&self, room: &str) {
        self.post(&format!("/join/{}", encoded(room)), json!({}))
            .await
            .ok();
    }

    /// Sends a text message and gives its event id. The transaction id is the text.
    pub async fn say(&self, room: &str, body: &str) -> String {
        let path = format!(
            "/rooms/{}/send/m.room.message/{}",
            encoded(room),
            encoded(body)
        );
        let content = json!({ "msgtype": "m.text", "body": body });
        text(&self.put(&path, content).await.ok()["event_id"])
    }

    /// The content of a state event.
    pub async fn state(&self, room: &str, kind: &str, key: &str) -> HttpAnswer {
        self.get(&format!(
            "/rooms/{}/state/{kind}/{}",
            encoded(room),
            encoded(key)
        ))
        .await
    }

    /// Sets state and gives the event id.
    pub async fn set_state(&self, room: &str, kind: &str, key: &str, content: Value) -> HttpAnswer {
        let path = format!("/rooms/{}/state/{kind}/{}", encoded(room), encoded(key));
        self.put(&path, content).await
    }
}

/// An answer.
#[derive(Debug)]
pub struct HttpAnswer {
    what: String,
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    /// `Null` if it is no JSON.
    pub body: Value,
    pub bytes: Bytes,
}

impl HttpAnswer {
    /// The body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}: {}", self.what, self.body);
        self.body
    }

    /// The body of a failure with this status and code.
    #[track_caller]
    pub fn fails(self, status: u16, errcode: &str) -> Value {
        let got = (
            self.status.as_u16(),
            self.body["errcode"].as_str().unwrap_or(""),
        );
        assert_eq!(got, (status, errcode), "{}: {}", self.what, self.body);
        assert!(
            self.body["error"]
                .as_str()
                .is_some_and(|error| !error.is_empty())
        );
        self.body
    }
}

/// A JSON value that is a string.
#[track_caller]
pub fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no string"))
        .to_owned()
}

/// A path segment.
pub fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Strings that have broken servers before.
pub const HOSTILE: [&str; 9] = [
    "\u{0}",
    "a\u{0}b",
    "\u{1}0",
    "'; DROP TABLE account; --",
    "\"\\\u{8}\n\r\t\u{7f}",
    "\u{202e}\u{200b}\u{feff}",
    "🏳️‍🌈 ü \u{10ffff} \u{fffe}",
    "%00 %2F {p1} $1 ?",
    "null",
];
