//! A balancer as one stands before several processes: each request goes to the next of them.
//!
//! It does what real ones do: it asks each process again and again how it is, sends nothing to one that doesn't say
//! that it is well, gives up what is under way there, and asks another in its place where that does no harm.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header, request::Parts, uri::PathAndQuery},
    response::{IntoResponse as _, Response},
};
use futures_util::future::select_all;
use rhizome_storage::testing::{eventually, soon};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::MissedTickBehavior};

use crate::client;

/// How often a process is asked how it is.
const BEAT: Duration = Duration::from_millis(250);
/// Who hasn't said for so long that it is well isn't.
const UNWELL: Duration = Duration::from_secs(1);
/// How long a process that is well may take, beyond what the request itself lets it wait. That is longer than
/// anybody should wait, so that what hangs there is seen, and not hidden by another try.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many processes are asked for one request.
const TRIES: usize = 6;

pub(super) struct Balancer {
    /// Where clients come to.
    pub(super) base: String,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    nodes: Vec<Node>,
    turn: AtomicUsize,
    /// How often another process was asked.
    asked_another: AtomicUsize,
    http: reqwest::Client,
}

struct Node {
    base: Mutex<String>,
    well: watch::Sender<bool>,
}

/// Why a process gave no answer.
enum Missed {
    /// It never heard of the request.
    NotReached,
    /// What has become of it is unknown.
    Cut,
}

impl Balancer {
    pub(super) async fn open(bases: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let nodes = bases.into_iter().map(|base| Node {
            base: Mutex::new(base),
            well: watch::Sender::new(true),
        });
        let shared = Arc::new(Shared {
            nodes: nodes.collect(),
            turn: AtomicUsize::new(0),
            asked_another: AtomicUsize::new(0),
            http: client::http(),
        });
        let router = Router::new().fallback(forward).with_state(shared.clone());
        let mut tasks = vec![tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        })];
        for at in 0..shared.nodes.len() {
            tasks.push(tokio::spawn(look_after(shared.clone(), at)));
        }
        Self {
            base,
            shared,
            tasks,
        }
    }

    /// A process was started anew.
    pub(super) fn moved_to(&self, at: usize, base: &str) {
        let node = &self.shared.nodes[at];
        base.clone_into(&mut node.base.lock().unwrap());
        // It says itself when it is well.
        node.well.send_replace(false);
    }

    /// Waits until requests go to every process.
    pub(super) async fn all_are_well(&self) {
        let nodes = &self.shared.nodes;
        eventually("every process is well", async || {
            nodes.iter().all(|node| *node.well.borrow())
        })
        .await;
    }

    /// Waits until nothing is sent to a process any more.
    pub(super) async fn is_unwell(&self, at: usize) {
        let mut well = self.shared.nodes[at].well.subscribe();
        soon("it is seen to be unwell", well.wait_for(|well| !well))
            .await
            .unwrap();
    }

    /// How often another process was asked in the place of one that gave no answer.
    pub(super) fn asked_another(&self) -> usize {
        self.shared.asked_another.load(Ordering::Relaxed)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Asks a process again and again how it is.
async fn look_after(shared: Arc<Shared>, at: usize) {
    let node = &shared.nodes[at];
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let url = format!("{}/health", node.base.lock().unwrap());
        let asked = tokio::time::timeout(UNWELL, shared.http.get(url).send()).await;
        let well = matches!(asked, Ok(Ok(answer)) if answer.status() == StatusCode::OK);
        node.well.send_replace(well);
    }
}

/// One request, and what came of it.
async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    for _ in 0..TRIES {
        let Some(node) = shared.whose_turn() else {
            shared.somebody_is_well().await;
            continue;
        };
        let goes_on = match shared.ask(node, &parts, body.clone()).await {
            Ok(response) => return response,
            Err(Missed::NotReached) => true,
            Err(Missed::Cut) => may_come_twice(&parts),
        };
        if !goes_on {
            break;
        }
        shared.asked_another.fetch_add(1, Ordering::Relaxed);
    }
    StatusCode::BAD_GATEWAY.into_response()
}

impl Shared {
    /// The next process that is well.
    fn whose_turn(&self) -> Option<&Node> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.nodes.len();
        let mut turn = (0..count).map(|n| &self.nodes[(first + n) % count]);
        turn.find(|node| *node.well.borrow())
    }

    /// Waits until there is one that is.
    async fn somebody_is_well(&self) {
        let each = self.nodes.iter().map(|node| {
            let mut well = node.well.subscribe();
            Box::pin(async move { well.wait_for(|well| *well).await.is_ok() })
        });
        soon("some process is well", select_all(each)).await;
    }

    async fn ask(&self, node: &Node, parts: &Parts, body: Bytes) -> Result<Response, Missed> {
        let target = parts.uri.path_and_query();
        let target = target.map_or("/", PathAndQuery::as_str);
        let url = format!("{}{target}", node.base.lock().unwrap());
        let request = self
            .http
            .request(parts.method.clone(), url)
            .headers(passed_on(&parts.headers))
            .body(body);
        let answering = async {
            let answer = request.send().await?;
            let (status, headers) = (answer.status(), passed_on(answer.headers()));
            let body = Body::from(answer.bytes().await?);
            Ok::<_, reqwest::Error>((status, headers, body).into_response())
        };
        let mut well = node.well.subscribe();
        let unwell = async { well.wait_for(|well| !well).await.is_ok() };
        tokio::select! {
            answered = tokio::time::timeout(patience(parts), answering) => match answered {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) if error.is_connect() => Err(Missed::NotReached),
                Ok(Err(_)) | Err(_) => Err(Missed::Cut),
            },
            _ = unwell => Err(Missed::Cut),
        }
    }
}

/// Without what belongs to one connection.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
    ] {
        headers.remove(name);
    }
    headers
}

fn patience(parts: &Parts) -> Duration {
    let query = parts.uri.query().unwrap_or_default();
    let mut pairs = query.split('&');
    let timeout = pairs.find_map(|pair| pair.strip_prefix("timeout=")?.parse().ok());
    Duration::from_millis(timeout.unwrap_or(0)) + PATIENCE
}

/// Whether it does no harm if two processes get the request.
fn may_come_twice(parts: &Parts) -> bool {
    let path = parts.uri.path();
    let has_transaction = path.contains("/send/") || path.contains("/sendToDevice/");
    parts.method == Method::GET || (parts.method == Method::PUT && has_transaction)
}
