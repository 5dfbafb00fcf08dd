//! Events that are sent later (MSC4140). Their task runs beside the server, on a clock that the test moves.

mod limits;
mod managing;
mod processes;
mod refused;
mod sending;

use http::Method;
use rhizome_client_api::{ClientConfig, send_delayed};
use rhizome_storage::{
    Clock, Options, Store,
    testing::{TestDatabase, eventually, soon},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{Server, User, esc};

/// Where the clock stands in the beginning.
pub const START: i64 = 1_700_000_000_000;
/// Of what type most delayed events of these stories are.
pub const KIND: &str = "org.example.late";
const BASE: &str = "/_matrix/client/unstable/org.matrix.msc4140";

/// A store whose clock the test moves.
pub async fn open(database: &TestDatabase, clock: &Clock) -> Store {
    let options = Options {
        clock: clock.clone(),
        ..database.options()
    };
    Store::open(options).await.unwrap()
}

/// Sends what is due on a server until that shuts down.
pub fn sending(server: &Server) -> JoinHandle<()> {
    let sending = send_delayed(server.app.clone(), server.shutdown.clone());
    tokio::spawn(async move { sending.await.unwrap() })
}

/// Shuts a server down, which finishes what it sends.
pub async fn stop(server: &Server, sending: JoinHandle<()>) {
    server.shutdown.cancel();
    soon("sending ends", sending).await.unwrap();
}

/// Runs a story with a server that sends what is due, on both databases.
pub async fn late<F, R>(change: fn(&mut ClientConfig), tell: F)
where
    F: Fn(Server, Clock) -> R,
    R: Future<Output = ()>,
{
    for database in TestDatabase::both().await {
        let clock = Clock::manual(START);
        let store = open(&database, &clock).await;
        let server = Server::with(store.clone(), change);
        let sending = sending(&server);
        tell(server.clone(), clock).await;
        stop(&server, sending).await;
        store.close().await;
        database.remove().await;
    }
}

/// A request of the proposal's own paths; without a user, nobody makes it.
pub async fn ask(
    server: &Server,
    user: Option<&User>,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (u16, Value) {
    let token = user.map(|user| user.token.as_str());
    let path = format!("{BASE}{path}");
    let (status, answer) = server.request(method, &path, token, body).await;
    (status.as_u16(), answer)
}

/// Asks `/send` to send an event later.
pub async fn try_send(
    user: &User,
    room: &str,
    (kind, txn): (&str, &str),
    delay: &str,
    content: Option<Value>,
) -> (u16, Value) {
    let path = format!(
        "/rooms/{}/send/{kind}/{txn}?org.matrix.msc4140.delay={delay}",
        esc(room)
    );
    let (status, answer) = user.call(Method::PUT, &path, content).await;
    (status.as_u16(), answer)
}

/// The same where it must be taken, with `{"n": n}` and `n` as the transaction; gives the event's id as a delayed one.
pub async fn send(user: &User, room: &str, n: u32, delay: u32) -> String {
    let (txn, content) = (n.to_string(), json!({ "n": n }));
    let (status, answer) =
        try_send(user, room, (KIND, &txn), &delay.to_string(), Some(content)).await;
    assert_eq!(status, 200, "{answer}");
    answer["delay_id"].as_str().unwrap().to_owned()
}

/// Asks `/state` to set something later.
pub async fn set(user: &User, room: &str, (kind, key): (&str, &str), delay: u32) -> String {
    let path = format!(
        "/rooms/{}/state/{kind}/{}?org.matrix.msc4140.delay={delay}",
        esc(room),
        esc(key)
    );
    let answer = user.ok(Method::PUT, &path, json!({ "set": true })).await;
    answer["delay_id"].as_str().unwrap().to_owned()
}

/// What a user has scheduled.
pub async fn listed(user: &User) -> Vec<Value> {
    let (status, answer) = ask(
        &user.server,
        Some(user),
        Method::GET,
        "/delayed_events",
        None,
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    answer["delayed_events"].as_array().unwrap().clone()
}

/// What has become of an event.
pub async fn got(user: &User, id: &str) -> (u16, Value) {
    let path = format!("/delayed_events/{}", esc(id));
    ask(&user.server, Some(user), Method::GET, &path, None).await
}

/// What somebody does with an event of whom nothing is known but that they know its id.
pub async fn act(server: &Server, id: &str, action: &str) -> (u16, Value) {
    let path = format!("/delayed_events/{}/{action}", esc(id));
    ask(server, None, Method::POST, &path, Some(json!({}))).await
}

/// Waits until a user has so many left.
pub async fn left(user: &User, count: usize) {
    eventually("what is due is sent", async || {
        listed(user).await.len() == count
    })
    .await;
    // What the database says a moment before readers hear of it, they have heard of when something later is answered: something
    // that is written (an empty object would be nothing to write).
    let path = format!("/user/{}/account_data/org.example.later", esc(&user.id));
    user.ok(Method::PUT, &path, json!({ "left": count })).await;
}

/// The delayed events in a room's history, as a user sees them.
pub async fn sent(user: &User, room: &str) -> Vec<Value> {
    let path = format!("/rooms/{}/messages?dir=f&limit=500", esc(room));
    let page = user.read(&path).await;
    let events = page["chunk"].as_array().unwrap().iter();
    events
        .filter(|event| event["type"] == KIND)
        .cloned()
        .collect()
}

/// Their numbers.
pub async fn numbers(user: &User, room: &str) -> Vec<i64> {
    let events = sent(user, room).await;
    let numbers = events
        .iter()
        .map(|event| event["content"]["n"].as_i64().unwrap());
    numbers.collect()
}

/// Nothing in the configuration is changed.
pub fn as_usual(_: &mut ClientConfig) {}
