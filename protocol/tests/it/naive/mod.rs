//! A second reading of the specification, from its text to code with nothing in between: slow, recursive,
//! by version number and on bare JSON. It shares no line with the crate, which must agree with it.

mod auth;
mod resolve;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub use auth::{allowed, auth_events_allowed};
pub use resolve::resolve;

/// Event type and state key.
pub type Key = (String, String);
/// A room's state.
pub type State = BTreeMap<Key, String>;

/// An event: its id, its JSON, whether it was rejected.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: String,
    pub json: Value,
    pub rejected: bool,
}

/// All events of a room by id.
pub type Events = BTreeMap<String, Event>;

impl Event {
    pub fn kind(&self) -> &str {
        self.json["type"].as_str().unwrap()
    }

    pub fn sender(&self) -> &str {
        self.json["sender"].as_str().unwrap()
    }

    pub fn state_key(&self) -> Option<&str> {
        self.json["state_key"].as_str()
    }

    pub fn key(&self) -> Key {
        (
            self.kind().to_owned(),
            self.state_key().unwrap_or_default().to_owned(),
        )
    }

    pub fn content(&self) -> &Value {
        &self.json["content"]
    }

    pub fn membership(&self) -> Option<&str> {
        self.content()["membership"].as_str()
    }

    pub fn ts(&self) -> i64 {
        self.json["origin_server_ts"].as_i64().unwrap()
    }

    pub fn depth(&self) -> i64 {
        self.json["depth"].as_i64().unwrap()
    }

    fn ids(&self, field: &str) -> Vec<String> {
        let id = |entry: &Value| entry.as_str().or(entry[0].as_str()).unwrap().to_owned();
        self.json[field]
            .as_array()
            .unwrap()
            .iter()
            .map(id)
            .collect()
    }

    pub fn prev_events(&self) -> Vec<String> {
        self.ids("prev_events")
    }

    /// In version 12 without the create event.
    pub fn auth_events(&self) -> Vec<String> {
        self.ids("auth_events")
    }

    /// The create event that a room id of version 12 names.
    pub fn create_by_room_id(&self) -> String {
        self.json["room_id"].as_str().unwrap().replacen('!', "$", 1)
    }
}

/// What follows the colon.
pub fn domain(id: &str) -> &str {
    id.split_once(':').map_or("", |(_, domain)| domain)
}

/// An event's auth chain: what it reaches by `auth_events`, without itself.
pub fn auth_chain(events: &Events, id: &str) -> BTreeSet<String> {
    let mut chain = BTreeSet::new();
    let mut todo = events[id].auth_events();
    while let Some(next) = todo.pop() {
        if chain.insert(next.clone()) {
            todo.extend(events[&next].auth_events());
        }
    }
    chain
}
