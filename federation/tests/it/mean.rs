//! The mean peer: a server that takes part in rooms and signs properly, and lies as a script says.
//!
//! It stands in front of one of the [`World`]'s servers. Requests that no lie is told about go on to that
//! server, which is honest; the others are held against the specification here, as they would be there; what it sends of itself goes through [`Server::transaction`] and
//! [`Server::request`], and its events are made by [`forge`](crate::inbound::forge) or by hand.
//!
//! ```ignore
//! let mean = Mean::before(&world, 1);
//! mean.says("/get_missing_events/", json!({ "events": [json_of(&second)] }));
//! mean.is_silent("/state_ids/");
//! mean.lies("/event/", |asked| asked.target.ends_with("x").then(|| json_answer(&json!({}))));
//! …
//! assert!(mean.count("/get_missing_events/") < 10);
//! mean.repents();
//! ```

use std::sync::{Arc, Mutex};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use http::{StatusCode, header::CONTENT_TYPE, request::Parts};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use rhizome_contract::{Exchange, Watch};
use rhizome_federation::testing::Network;

use crate::world::{Server, World};

/// A request to the mean peer.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Method, path and query, percent-decoded: `GET /_matrix/federation/v1/event/$x`.
    pub target: String,
    pub body: Bytes,
}

impl Asked {
    /// The body's JSON, or `null`.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// What a lie makes of a request: an answer, or nothing where the next lie or the truth shall be told.
type Lie = dyn Fn(&Asked) -> Option<Told> + Send + Sync;

/// What becomes of an honest answer on its way.
type Garble = dyn Fn(Response) -> Response + Send + Sync;

enum Told {
    This(Response),
    /// The connection stays open, and nothing comes.
    Silence,
}

#[derive(Default)]
struct Script {
    /// A part of the target, and what is told then.
    lies: Vec<(String, Arc<Lie>)>,
    garbled: Vec<(String, Arc<Garble>)>,
    asked: Vec<Asked>,
}

/// The mean peer's script. All clones are the same.
#[derive(Clone)]
pub struct Mean {
    script: Arc<Mutex<Script>>,
    watch: Watch,
}

impl Mean {
    /// The world's server at `index` becomes mean, as soon as it is told how.
    pub fn before(world: &World, index: usize) -> Self {
        Self::in_front_of(&world.network, world.server(index))
    }

    /// The server becomes mean, as soon as it is told how.
    pub fn in_front_of(network: &Network, server: &Server) -> Self {
        let mean = Self {
            script: Arc::default(),
            watch: server.watch().clone(),
        };
        let layer = middleware::from_fn_with_state(mean.clone(), Self::answer);
        network.attach(&server.name, server.router().layer(layer));
        mean
    }

    async fn answer(State(mean): State<Self>, request: Request, next: Next) -> Response {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let asked = Asked {
            target: percent_decode_str(&format!("{} {}", head.method, head.uri))
                .decode_utf8_lossy()
                .into_owned(),
            body: body.clone(),
        };
        let told = mean.told(&asked);
        if told.is_some() {
            mean.watch.asked(&request_of(&head, &body));
        }
        match told {
            Some(Told::This(answer)) => answer,
            Some(Told::Silence) => std::future::pending().await,
            None => {
                let answer = next.run(Request::from_parts(head, Body::from(body)));
                mean.garbled(&asked, answer.await)
            }
        }
    }

    fn told(&self, asked: &Asked) -> Option<Told> {
        let mut script = self.script.lock().unwrap();
        script.asked.push(asked.clone());
        let newest_first = script.lies.iter().rev();
        let fitting = newest_first.filter(|(part, _)| asked.target.contains(part.as_str()));
        let fitting: Vec<Arc<Lie>> = fitting.map(|(_, lie)| Arc::clone(lie)).collect();
        // A lie may look at the script itself.
        drop(script);
        fitting.iter().find_map(|lie| lie(asked))
    }

    fn add(&self, part: &str, lie: impl Fn(&Asked) -> Option<Told> + Send + Sync + 'static) {
        let lie = (part.to_owned(), Arc::new(lie) as Arc<Lie>);
        self.script.lock().unwrap().lies.push(lie);
    }

    /// Answers requests whose target has `part` in it; the newest lie that gives an answer is told.
    pub fn lies<F>(&self, part: &str, answer: F)
    where
        F: Fn(&Asked) -> Option<Response> + Send + Sync + 'static,
    {
        self.add(part, move |asked| answer(asked).map(Told::This));
    }

    /// Answers such requests with this JSON.
    pub fn says(&self, part: &str, answer: Value) {
        self.lies(part, move |_| Some(json_answer(&answer)));
    }

    /// Answers such requests with this status and JSON.
    pub fn refuses(&self, part: &str, status: StatusCode, error: Value) {
        self.lies(part, move |_| {
            let mut answer = json_answer(&error);
            *answer.status_mut() = status;
            Some(answer)
        });
    }

    /// Takes such requests and never answers.
    pub fn is_silent(&self, part: &str) {
        self.add(part, |_| Some(Told::Silence));
    }

    /// Does what such requests ask for, and makes something else of the answer.
    pub fn garbles<F>(&self, part: &str, garble: F)
    where
        F: Fn(Response) -> Response + Send + Sync + 'static,
    {
        let garble = (part.to_owned(), Arc::new(garble) as Arc<Garble>);
        self.script.lock().unwrap().garbled.push(garble);
    }

    fn garbled(&self, asked: &Asked, answer: Response) -> Response {
        let script = self.script.lock().unwrap();
        let mut fitting = script.garbled.iter().rev();
        let fitting = fitting.find(|(part, _)| asked.target.contains(part.as_str()));
        let garble = fitting.map(|(_, garble)| Arc::clone(garble));
        drop(script);
        match garble {
            Some(garble) => garble(answer),
            None => answer,
        }
    }

    /// Nothing but the truth from now on.
    pub fn repents(&self) {
        let mut script = self.script.lock().unwrap();
        script.lies.clear();
        script.garbled.clear();
    }

    /// Every request so far whose target has `part` in it.
    pub fn asked(&self, part: &str) -> Vec<Asked> {
        let script = self.script.lock().unwrap();
        let fitting = script
            .asked
            .iter()
            .filter(|asked| asked.target.contains(part));
        fitting.cloned().collect()
    }

    /// How many these are.
    pub fn count(&self, part: &str) -> usize {
        self.asked(part).len()
    }
}

/// A request as it is held against the specification.
fn request_of(head: &Parts, body: &Bytes) -> Exchange {
    let target = head.uri.path_and_query().map(ToString::to_string);
    Exchange {
        method: head.method.to_string(),
        target: target.unwrap_or_default(),
        headers: head.headers.clone(),
        sent: Some(body.clone()),
        status: 0,
        answer: None,
    }
}

/// A 200 with this JSON.
pub fn json_answer(answer: &Value) -> Response {
    body_answer(Body::from(answer.to_string()))
}

/// A 200 with this body, which says of itself that it is JSON.
pub fn body_answer(body: Body) -> Response {
    Response::builder()
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .unwrap()
}

/// `head`, then `element` again and again with commas between, `count` times, then `tail`: made as it is read, so
/// that the peer itself holds none of it.
pub fn endless(head: &str, element: &str, count: usize, tail: &str) -> Body {
    let (head, tail) = (Bytes::from(head.to_owned()), Bytes::from(tail.to_owned()));
    let first = Bytes::from(element.to_owned());
    let element = Bytes::from(format!(",{element}"));
    let pieces = (0..count + 2).map(move |at| {
        Ok::<_, std::io::Error>(match at {
            0 => head.clone(),
            1 if count > 0 => first.clone(),
            at if at <= count => element.clone(),
            _ => tail.clone(),
        })
    });
    Body::from_stream(futures_util::stream::iter(pieces))
}
