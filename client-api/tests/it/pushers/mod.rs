//! Pushers: what their gateways are told, and when.

mod again;
mod locked;
mod mails;
mod number;
mod set;
pub mod sink;
mod told;
mod web;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, extract::State, routing::post};
use http::{Method, StatusCode};
use rhizome_client_api::{ClientConfig, notify};
use rhizome_federation::{outbound::Reach, testing::Network};
use rhizome_storage::{
    About, Clock, Options, PresenceOptions, PusherKey, Store,
    testing::{TestDatabase, eventually},
};
use ruma::server_name;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::{Server, User};

/// A push gateway that writes down what it is told, and answers what the test says.
#[derive(Clone, Default)]
pub struct Gateway {
    got: Arc<Mutex<Vec<Value>>>,
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
}

impl Gateway {
    pub fn attach(network: &Network) -> Self {
        let gateway = Self::default();
        let notify = async |State(gateway): State<Gateway>, Json(told): Json<Value>| {
            gateway
                .got
                .lock()
                .unwrap()
                .push(told["notification"].clone());
            let answer = gateway.answers.lock().unwrap().pop_front();
            let (status, answer) = answer.unwrap_or((200, json!({ "rejected": [] })));
            (StatusCode::from_u16(status).unwrap(), Json(answer))
        };
        let router = Router::new().route("/_matrix/push/v1/notify", post(notify));
        network.attach(server_name!("push"), router.with_state(gateway.clone()));
        gateway
    }

    /// All that it was told.
    fn got(&self) -> Vec<Value> {
        self.got.lock().unwrap().clone()
    }

    /// The number that it was told last for a key; 0 if it never was.
    pub fn badge(&self, key: &str) -> u64 {
        let got = self.got.lock().unwrap();
        let mut told = got.iter().rev();
        let last = told.find(|told| told["devices"][0]["pushkey"] == key);
        last.map_or(0, |told| told["counts"]["unread"].as_u64().unwrap_or(0))
    }

    /// What it is told, once that are so many.
    async fn told(&self, many: usize) -> Vec<Value> {
        eventually("the gateway is told", async || self.got().len() >= many).await;
        let got = self.got();
        assert_eq!(got.len(), many, "{got:#?}");
        got
    }

    /// What it answers next.
    fn answers(&self, status: u16, answer: Value) {
        self.answers.lock().unwrap().push_back((status, answer));
    }
}

/// A server whose users are told of what they miss.
pub struct World {
    pub server: Server,
    pub gateway: Gateway,
    pub network: Network,
    pub clock: Clock,
    telling: Option<(CancellationToken, JoinHandle<()>)>,
}

impl World {
    /// Begins to tell.
    fn begin(&mut self) {
        let stop = CancellationToken::new();
        let (app, stopped) = (self.server.app.clone(), stop.clone());
        let task = tokio::spawn(async move {
            notify::run(&app, &Reach::default(), &stopped).await;
        });
        self.telling = Some((stop, task));
    }

    /// Ends it as a crash does, and lets the time go by after which another process may begin.
    async fn crash(&mut self) {
        if let Some((_, task)) = self.telling.take() {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
            self.clock.advance(Duration::from_secs(6));
        }
    }

    /// Ends it, as the end of the process does.
    async fn end(&mut self) {
        if let Some((stop, task)) = self.telling.take() {
            stop.cancel();
            task.await.unwrap();
        }
    }
}

/// Runs a test on both databases. The time stands until the test moves it.
pub async fn each(test: impl AsyncFn(&mut World)) {
    each_with(|_| {}, test).await;
}

/// The same with other settings.
pub async fn each_with(settings: impl Fn(&mut ClientConfig), test: impl AsyncFn(&mut World)) {
    for database in TestDatabase::both().await {
        let clock = Clock::manual(1_700_000_000_000);
        let options = Options {
            clock: clock.clone(),
            presence: PresenceOptions {
                enabled: true,
                ..PresenceOptions::default()
            },
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        let network = Network::default();
        let gateway = Gateway::attach(&network);
        let server = Server::on(store.clone(), &network, &settings);
        let mut world = World {
            server,
            gateway,
            network,
            clock,
            telling: None,
        };
        world.begin();
        test(&mut world).await;
        world.end().await;
        store.close().await;
        database.remove().await;
    }
}

/// A pusher of the gateway's, as a client sets it.
pub fn pusher(key: &str, more: Value) -> Value {
    let mut pusher = json!({
        "app_id": "org.example.app",
        "pushkey": key,
        "kind": "http",
        "app_display_name": "App",
        "device_display_name": "Phone",
        "lang": "en",
        "data": { "url": "https://push/_matrix/push/v1/notify" },
    });
    if let (Some(pusher), Value::Object(more)) = (pusher.as_object_mut(), more) {
        pusher.extend(more);
    }
    pusher
}

pub async fn set(user: &User, pusher: Value) {
    user.ok(Method::POST, "/pushers/set", pusher).await;
}

/// The keys of a user's pushers.
pub async fn keys(user: &User) -> Vec<String> {
    let told = user.read("/pushers").await;
    let pushers = told["pushers"].as_array().unwrap().iter();
    pushers
        .map(|pusher| pusher["pushkey"].as_str().unwrap().to_owned())
        .collect()
}

/// Waits until so many events are to be told; numbers besides.
pub async fn waits(world: &World, many: usize) {
    let waiting = async || {
        let store = &world.server.store;
        let first = PusherKey::default();
        let mut count = 0;
        for key in store.pushers_waiting(&first, 10).await.unwrap() {
            let waiting = store.waiting_pushes(&key, 1_000).await.unwrap();
            let pushes = waiting.map_or_else(Vec::new, |waiting| waiting.pushes);
            count += pushes
                .iter()
                .filter(|push| push.about != About::Badge)
                .count();
        }
        count
    };
    eventually("so much waits", async || waiting().await == many).await;
}
