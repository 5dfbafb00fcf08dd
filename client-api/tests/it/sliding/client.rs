//! A client of sliding sync that looks at the form of every answer.

use http::{Method, StatusCode};
use rhizome_storage::testing::eventually;
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

use crate::harness::{User, esc};

/// Which form a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Today,
    Accepted,
}

/// A connection of a user's device.
#[derive(Clone)]
pub struct Client {
    pub user: User,
    pub form: Form,
    pub conn_id: &'static str,
    pub pos: Option<String>,
}

impl Client {
    pub fn of(user: &User) -> Client {
        Client {
            user: user.clone(),
            form: Form::Today,
            conn_id: "main",
            pos: None,
        }
    }

    pub fn accepted(user: &User) -> Client {
        Client {
            form: Form::Accepted,
            ..Client::of(user)
        }
    }

    pub fn named(user: &User, conn_id: &'static str) -> Client {
        Client {
            conn_id,
            ..Client::of(user)
        }
    }

    /// Asks; the answer may be an error.
    pub async fn ask(&self, body: &Value, timeout: u64) -> (StatusCode, Value) {
        let mut body = body.clone();
        body["conn_id"] = self.conn_id.into();
        let path = match self.form {
            Form::Today => {
                let pos = self.pos.as_ref().map(|pos| format!("&pos={}", esc(pos)));
                format!(
                    "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout={timeout}{}",
                    pos.unwrap_or_default()
                )
            }
            Form::Accepted => {
                body["timeout"] = timeout.into();
                if let Some(pos) = &self.pos {
                    body["pos"] = pos.as_str().into();
                }
                "/_matrix/client/v4/sync".to_owned()
            }
        };
        let server = &self.user.server;
        let token = Some(self.user.token.as_str());
        let (status, answer) = server.request(Method::POST, &path, token, Some(body)).await;
        if status == StatusCode::OK {
            check(&answer, self.form);
        }
        (status, answer)
    }

    /// Asks and goes on from the answer.
    pub async fn sync(&mut self, body: &Value) -> Value {
        self.wait(body, 0).await
    }

    /// The same, with a time to wait for news.
    pub async fn wait(&mut self, body: &Value, timeout: u64) -> Value {
        let (status, answer) = self.ask(body, timeout).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        self.pos = Some(answer["pos"].as_str().unwrap().to_owned());
        answer
    }

    /// Asks for a position that isn't known.
    pub async fn is_unknown(&self, body: &Value) {
        let (status, answer) = self.ask(body, 0).await;
        let expected = (StatusCode::BAD_REQUEST, "M_UNKNOWN_POS");
        assert_eq!((status, answer["errcode"].as_str().unwrap_or("")), expected);
    }

    /// Asks, has been told everything, and waits.
    pub async fn poll(&self, body: &Value) -> JoinHandle<Value> {
        let store = &self.user.server.store;
        let before = store.counters().now().waits;
        let (mut client, body) = (self.clone(), body.clone());
        let polling = tokio::spawn(async move { client.wait(&body, 170_000).await });
        eventually("the poll waits", async || {
            store.counters().now().waits > before
        })
        .await;
        polling
    }
}

/// A list of the first rooms, with a timeline of one event.
pub fn first(count: usize) -> Value {
    list(count, 1, json!([]))
}

/// A list of the first rooms.
pub fn list(count: usize, timeline_limit: usize, required_state: Value) -> Value {
    let mut list = json!({ "ranges": [[0, count - 1]], "timeline_limit": timeline_limit });
    list["required_state"] = required_state;
    json!({ "lists": { "all": list } })
}

/// The rooms of an answer.
pub fn rooms(answer: &Value) -> Vec<&str> {
    let rooms = answer["rooms"].as_object().unwrap();
    rooms.keys().map(String::as_str).collect()
}

/// The events of a room's timeline.
pub fn timeline(answer: &Value, room: &str) -> Vec<String> {
    ids(&answer["rooms"][room]["timeline"])
}

fn ids(events: &Value) -> Vec<String> {
    let events = events.as_array().into_iter().flatten();
    events
        .map(|event| event["event_id"].as_str().unwrap().to_owned())
        .collect()
}

/// Types and keys of a room's state, sorted.
pub fn state(answer: &Value, room: &str) -> Vec<(String, String)> {
    let state = answer["rooms"][room]["required_state"].as_array();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut state: Vec<_> = (state.into_iter().flatten())
        .map(|event| (text(&event["type"]), text(&event["state_key"])))
        .collect();
    state.sort();
    state
}

/// What an answer may look like: there are no files of the specification for it.
fn check(answer: &Value, form: Form) {
    only(answer, &["pos", "txn_id", "lists", "rooms", "extensions"]);
    assert!(answer["pos"].is_string());
    for list in objects(&answer["lists"]).values() {
        only(list, &["count"]);
        assert!(list["count"].is_u64());
    }
    for room in objects(&answer["rooms"]).values() {
        check_room(room, form);
    }
    let extensions = [
        "to_device",
        "e2ee",
        "account_data",
        "receipts",
        "typing",
        "io.element.msc4308.thread_subscriptions",
        "org.matrix.msc4354.sticky_events",
        "profiles",
        "org.matrix.msc4262.profiles",
    ];
    only(&answer["extensions"], &extensions);
    for kind in ["receipts", "typing"] {
        for (_, event) in objects(&answer["extensions"][kind]["rooms"]) {
            let whole = event["type"].is_string() && event["content"].is_object();
            assert!(whole, "{event}");
        }
    }
}

fn only(value: &Value, allowed: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("{value}"));
    for key in object.keys() {
        assert!(allowed.contains(&key.as_str()), "{key} in {value}");
    }
}

fn check_room(room: &Value, form: Form) {
    let flags: &[&str] = match form {
        Form::Today => &["initial", "is_dm", "limited", "unstable_expanded_timeline"],
        Form::Accepted => &["initial", "is_dm", "limited", "expanded_timeline"],
    };
    let numbers: &[&str] = match form {
        Form::Today => &["notification_count", "highlight_count"],
        Form::Accepted => &[],
    };
    let numbers = [
        numbers,
        &["bump_stamp", "joined_count", "invited_count", "num_live"],
    ]
    .concat();
    let lists: &[&str] = match form {
        Form::Today => &["heroes", "timeline", "required_state", "invite_state"],
        Form::Accepted => &[
            "heroes",
            "timeline",
            "required_state",
            "stripped_state",
            "lists",
        ],
    };
    let texts: &[&str] = match form {
        Form::Today => &["prev_batch", "name", "avatar"],
        Form::Accepted => &["prev_batch", "name", "avatar", "membership"],
    };
    only(room, &[flags, &numbers, lists, texts].concat());
    assert!(room["bump_stamp"].is_u64(), "{room}");
    for (key, value) in objects(room) {
        let key = key.as_str();
        let fits = value.is_boolean() && flags.contains(&key)
            || value.is_u64() && numbers.contains(&key)
            || value.is_array() && lists.contains(&key)
            || value.is_string() && texts.contains(&key)
            || value.is_null() && ["name", "avatar"].contains(&key);
        assert!(fits, "{key} in {room}");
    }
    for event in room["timeline"].as_array().into_iter().flatten() {
        let whole = event["event_id"].is_string() && event.get("room_id").is_none();
        assert!(whole, "{event}");
    }
}

fn objects(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}
