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
    json!({ "lists": { "all": {
        "ranges": [[0, count - 1]], "timeline_limit": timeline_limit, "required_state": required_state,
    } } })
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
    let only = |value: &Value, allowed: &[&str]| {
        for key in value
            .as_object()
            .unwrap_or_else(|| panic!("{value}"))
            .keys()
        {
            assert!(allowed.contains(&key.as_str()), "{key} in {value}");
        }
    };
    only(answer, &["pos", "txn_id", "lists", "rooms", "extensions"]);
    assert!(answer["pos"].is_string());
    for list in objects(&answer["lists"]).values() {
        only(list, &["count"]);
        assert!(list["count"].is_u64());
    }
    let mut allowed = vec![
        "initial",
        "bump_stamp",
        "is_dm",
        "name",
        "avatar",
        "heroes",
        "joined_count",
        "invited_count",
        "required_state",
        "timeline",
        "prev_batch",
        "limited",
        "num_live",
    ];
    allowed.extend(match form {
        Form::Today => [
            "invite_state",
            "notification_count",
            "highlight_count",
            "unstable_expanded_timeline",
        ],
        Form::Accepted => ["stripped_state", "membership", "lists", "expanded_timeline"],
    });
    for room in objects(&answer["rooms"]).values() {
        only(room, &allowed);
        assert!(room["bump_stamp"].is_u64(), "{room}");
        let is = |key: &str, fits: fn(&Value) -> bool| {
            assert!(room.get(key).is_none_or(fits), "{key} in {room}");
        };
        for key in [
            "initial",
            "is_dm",
            "limited",
            "expanded_timeline",
            "unstable_expanded_timeline",
        ] {
            is(key, Value::is_boolean);
        }
        for key in [
            "joined_count",
            "invited_count",
            "num_live",
            "notification_count",
            "highlight_count",
        ] {
            is(key, Value::is_u64);
        }
        for key in [
            "heroes",
            "timeline",
            "required_state",
            "invite_state",
            "stripped_state",
            "lists",
        ] {
            is(key, Value::is_array);
        }
        is("prev_batch", Value::is_string);
        is("name", |name| name.is_string() || name.is_null());
        is("avatar", |avatar| avatar.is_string() || avatar.is_null());
        for event in room["timeline"].as_array().into_iter().flatten() {
            assert!(
                event["event_id"].is_string() && event.get("room_id").is_none(),
                "{event}"
            );
        }
    }
    only(
        &answer["extensions"],
        &["to_device", "e2ee", "account_data", "receipts", "typing"],
    );
    for kind in ["receipts", "typing"] {
        for (_, event) in objects(&answer["extensions"][kind]["rooms"]) {
            assert!(
                event["type"].is_string() && event["content"].is_object(),
                "{event}"
            );
        }
    }
}

fn objects(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}
