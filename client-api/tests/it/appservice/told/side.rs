//! A service's side: it writes down what it is told and asked, and answers as the test says.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;
use rhizome_contract::Watch;
use rhizome_storage::testing::eventually;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

use super::line::Line;
use crate::harness::watch;

/// What it does with a transaction.
#[derive(Clone)]
pub enum Does {
    /// Answers this.
    Answers(u16),
    /// Never answers.
    Hangs,
    /// Answers that it is well when it is told so.
    Waits(Arc<Notify>),
}

/// What it is asked: the path, unescaped, without what all have in common.
type Asked = (Method, String, Value);
/// What it does before it says yes.
type Making = Arc<dyn Fn(String) -> BoxFuture<'static, ()> + Send + Sync>;

/// See the module.
#[derive(Clone, Default)]
pub struct Side {
    pub url: String,
    /// Transactions with their numbers, as they came.
    got: Arc<Mutex<Vec<(i64, String)>>>,
    does: Arc<Mutex<VecDeque<Does>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// By path.
    answers: Arc<Mutex<HashMap<String, (u16, Value)>>>,
    makes: Arc<Mutex<Option<Making>>>,
    watch: Option<Watch>,
    line: Option<Arc<Line>>,
}

impl Side {
    /// Listens on a port of its own.
    pub async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = Line::to(listener.local_addr().unwrap());
        let watch = watch();
        let side = Self {
            url: format!("http://{}", line.at),
            watch: Some(watch.clone()),
            line: Some(Arc::new(line)),
            ..Self::default()
        };
        let router = Router::new().fallback(answer).with_state(side.clone());
        let router = watch.over_asked(router);
        tokio::spawn(async move { axum::serve(listener, router).await });
        side
    }

    /// It is killed: what is under way breaks off, and nobody is there.
    pub async fn dies(&self) {
        self.line().dies().await;
    }

    /// It is started again, where it was.
    pub fn rises(&self) {
        self.line().rises();
    }

    fn line(&self) -> &Line {
        self.line.as_ref().unwrap()
    }

    /// What it does with the next transactions.
    pub fn does(&self, next: impl IntoIterator<Item = Does>) {
        self.does.lock().unwrap().extend(next);
    }

    /// What it answers at a path.
    pub fn says(&self, path: &str, status: u16, answer: Value) {
        let mut answers = self.answers.lock().unwrap();
        answers.insert(path.to_owned(), (status, answer));
    }

    /// What it does when it is asked for an alias or a user, before it says yes.
    pub fn makes(&self, make: impl Fn(String) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        *self.makes.lock().unwrap() = Some(Arc::new(make));
    }

    /// What it was asked so far at this path.
    pub fn asked(&self, path: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        let asked = asked.iter().filter(|(_, at, _)| at == path);
        asked.map(|(_, _, body)| body.clone()).collect()
    }

    /// How many transactions have come, repeated ones as well.
    pub fn came(&self) -> usize {
        self.got.lock().unwrap().len()
    }

    /// The transactions so far, each once. Those with the same number must be the same byte for byte, and the numbers in
    /// order without gaps; and what was asked as the specification says.
    #[track_caller]
    pub fn transactions(&self) -> Vec<Value> {
        if let Some(watch) = &self.watch {
            watch.assert_kept();
        }
        let got = self.got.lock().unwrap();
        let mut all: BTreeMap<i64, &String> = BTreeMap::new();
        let mut last = None;
        for (txn, body) in got.iter() {
            let known = all.entry(*txn).or_insert(body);
            assert_eq!(known, &body, "transaction {txn} has changed");
            let follows = last.is_none_or(|last| *txn == last || *txn == last + 1);
            assert!(follows, "{txn} after {last:?}");
            last = Some(*txn);
        }
        let each = all.into_values();
        each.map(|body| serde_json::from_str(body).unwrap())
            .collect()
    }

    /// Of all transactions what stands under a name, one after the other.
    #[track_caller]
    pub fn told(&self, name: &str) -> Vec<Value> {
        let transactions = self.transactions();
        let lists = transactions.iter().map(|transaction| &transaction[name]);
        let lists = lists.filter_map(Value::as_array);
        lists.flatten().cloned().collect()
    }

    /// The events of a room.
    #[track_caller]
    pub fn events(&self, room: &str) -> Vec<Value> {
        let mut events = self.told("events");
        events.retain(|event| event["room_id"] == room);
        events
    }

    /// The bodies of a room's messages.
    #[track_caller]
    pub fn said(&self, room: &str) -> Vec<String> {
        let events = self.events(room).into_iter();
        let said = events.filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned()));
        said.collect()
    }

    /// Waits until it has heard of an event.
    pub async fn hears(&self, event: &str) {
        eventually("the service hears of it", async || {
            let events = self.told("events");
            events.iter().any(|told| told["event_id"] == event)
        })
        .await;
    }

    /// Waits until so many transactions have come.
    pub async fn gets(&self, many: usize) {
        eventually("the service gets transactions", async || {
            self.came() >= many
        })
        .await;
    }
}

async fn answer(
    State(side): State<Side>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    assert_eq!(headers[header::AUTHORIZATION], "Bearer irc-hs-token");
    let path = percent_decode_str(uri.path()).decode_utf8().unwrap();
    if let Some(txn) = path.strip_prefix("/_matrix/app/v1/transactions/") {
        let body = String::from_utf8(body.to_vec()).unwrap();
        side.got.lock().unwrap().push((txn.parse().unwrap(), body));
        let does = side.does.lock().unwrap().pop_front();
        let status = match does {
            None => 200,
            Some(Does::Answers(status)) => status,
            Some(Does::Hangs) => std::future::pending().await,
            Some(Does::Waits(until)) => {
                until.notified().await;
                200
            }
        };
        let status = StatusCode::from_u16(status).unwrap();
        return (status, "{}").into_response();
    }
    let short = path.strip_prefix("/_matrix/app/").unwrap();
    let short = match uri.query() {
        Some(query) => format!("{short}?{query}"),
        None => short.to_owned(),
    };
    let body = serde_json::from_slice(&body).unwrap_or_default();
    side.asked
        .lock()
        .unwrap()
        .push((method, short.clone(), body));
    let answered = side.answers.lock().unwrap().get(&short).cloned();
    let nothing = json!({ "errcode": "M_NOT_FOUND", "error": "nobody knows" });
    let (status, said) = answered.unwrap_or((404, nothing));
    let id = short.rsplit('/').next().unwrap_or_default().to_owned();
    let making = side.makes.lock().unwrap().clone();
    if let (200, Some(making)) = (status, making) {
        making(id).await;
    }
    let status = StatusCode::from_u16(status).unwrap();
    (status, said.to_string()).into_response()
}
