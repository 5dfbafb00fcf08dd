//! Several servers with their clients, on one network.

use std::time::Duration;

use http::Method;
use rhizome_federation::{FederationConfig, testing::Network};
use rhizome_storage::testing::TestDatabase;
use ruma::{OwnedServerName, ServerName};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::signer::query;
use crate::harness::{Server, User, esc};

/// Servers `a.example`, `b.example`, … that send to each other.
pub struct Several {
    pub network: Network,
    servers: Vec<One>,
}

struct One {
    name: OwnedServerName,
    database: TestDatabase,
    server: Server,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Tells a story with so many servers, on both databases.
pub async fn several(count: u8, story: impl AsyncFn(&mut Several)) {
    for postgres in [false, true] {
        on(postgres, count, &story).await;
    }
}

/// The same on one of them.
pub async fn on(postgres: bool, count: u8, story: impl AsyncFn(&mut Several)) {
    let network = Network::default();
    let mut servers = Vec::new();
    for index in 0..count {
        let database = TestDatabase::new(postgres).await;
        servers.push(One::start(index, database, &network).await);
    }
    let mut all = Several { network, servers };
    story(&mut all).await;
    for one in all.servers {
        one.end().await.remove().await;
    }
}

impl One {
    async fn start(index: u8, database: TestDatabase, network: &Network) -> Self {
        let name = format!("{}.example", char::from(b'a' + index));
        let name: OwnedServerName = name.try_into().unwrap();
        let federation = FederationConfig {
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_millis(200),
            tell_device_names: true,
            ..FederationConfig::default()
        };
        let store = database.open().await;
        let server = Server::federating(&name, 20 + index, store, network, federation, |_| {});
        let stop = CancellationToken::new();
        let (fed, stopped) = (server.federation.clone(), stop.clone().cancelled_owned());
        let task = tokio::spawn(async move { fed.run(stopped).await.unwrap() });
        Self {
            name,
            database,
            server,
            stop,
            task,
        }
    }

    async fn end(self) -> TestDatabase {
        self.stop.cancel();
        self.task.await.unwrap();
        self.server.store.close().await;
        self.database
    }
}

impl Several {
    pub fn server(&self, index: usize) -> &Server {
        &self.servers[index].server
    }

    pub fn name(&self, index: usize) -> &ServerName {
        &self.servers[index].name
    }

    /// New caches, new tasks, the same database. Users of it go on with [`Several::again`].
    pub async fn restart(&mut self, index: usize) {
        let one = self.servers.remove(index);
        let database = one.end().await;
        let at = u8::try_from(index).unwrap();
        let one = One::start(at, database, &self.network).await;
        self.servers.insert(index, one);
    }

    /// The user, at what their server is by now.
    pub fn again(&self, user: &User) -> User {
        let server = user.id.split_once(':').unwrap().1;
        let mut found = self.servers.iter().filter(|one| one.name == server);
        User {
            server: found.next().unwrap().server.clone(),
            ..user.clone()
        }
    }

    /// Joins a room through all servers; whether it worked.
    pub async fn join(&self, user: &User, room: &str) -> bool {
        self.tries_to_join(user, room).await.0
    }

    /// The same, with what is answered.
    pub async fn tries_to_join(&self, user: &User, room: &str) -> (bool, Value) {
        let via: Vec<String> = (self.servers.iter())
            .map(|one| format!("via={}", one.name))
            .collect();
        let path = format!("/join/{}?{}", esc(room), via.join("&"));
        let (status, answer) = user.call(Method::POST, &path, Some(json!({}))).await;
        (status.is_success(), answer)
    }

    /// How often others have asked a server for devices or keys of its users.
    pub fn asked(&self, index: usize) -> usize {
        let requests = self.network.requests();
        let asked = requests.iter().filter(|(to, line)| {
            *to == self.servers[index].name && line.contains("/federation/v1/user/")
        });
        asked.count()
    }
}

/// The devices of a user that another sees, by id, if the user's server could be asked or needn't be.
pub async fn devices_of(viewer: &User, user: &str) -> Option<Vec<String>> {
    let answer = query(viewer, json!({ user: [] })).await;
    let failures = answer["failures"].as_object();
    if failures.is_some_and(|failures| !failures.is_empty()) {
        return None;
    }
    Some(ids(&answer, user))
}

/// The ids of a user's devices in an answer.
pub fn ids(answer: &Value, user: &str) -> Vec<String> {
    let devices = answer["device_keys"][user].as_object();
    devices
        .map(|all| all.keys().cloned().collect())
        .unwrap_or_default()
}
