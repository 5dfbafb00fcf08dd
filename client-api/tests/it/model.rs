//! What a client makes of `/sync`, to be compared with what is.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{User, esc, next};

/// A room's state: event ids by type and state key.
pub type State = BTreeMap<(String, String), String>;

/// What a client believes of the rooms, from nothing but `/sync`.
#[derive(Default)]
pub struct Model {
    pub since: Option<String>,
    /// Of the rooms that the user is in.
    pub state: BTreeMap<String, State>,
    /// Of the rooms that the user has left, as of the leaving.
    pub left: BTreeMap<String, State>,
    pub timeline: BTreeMap<String, Vec<String>>,
}

impl Model {
    pub async fn catch_up(&mut self, user: &User, query: &str) {
        let sync = user.sync(self.since.as_deref(), query).await;
        self.since = Some(next(&sync));
        let empty = serde_json::Map::new();
        let rooms = |section: &str| sync["rooms"][section].as_object().unwrap_or(&empty).iter();
        for (room, part) in rooms("join") {
            self.left.remove(room);
            apply(self.state.entry(room.clone()).or_default(), part);
            let seen = self.timeline.entry(room.clone()).or_default();
            if part["timeline"]["limited"] == true {
                seen.clear();
            }
            for event in part["timeline"]["events"].as_array().unwrap() {
                let id = event["event_id"].as_str().unwrap().to_owned();
                assert!(!seen.contains(&id), "an event was told twice");
                seen.push(id);
            }
        }
        for (room, part) in rooms("leave") {
            let mut state = self.state.remove(room).unwrap_or_default();
            apply(&mut state, part);
            self.left.insert(room.clone(), state);
            self.timeline.remove(room);
        }
        // Who is invited again was put out in the meantime.
        for (room, _) in rooms("invite") {
            self.state.remove(room);
            self.left.remove(room);
            self.timeline.remove(room);
        }
    }
}

/// The state that comes first, then that of the timeline; or all of it at once.
fn apply(state: &mut State, part: &Value) {
    let after = part.get("state_after");
    let told = after.or(part.get("state")).unwrap()["events"].as_array();
    let shown = part["timeline"]["events"].as_array();
    let shown = shown.filter(|_| after.is_none());
    for event in told.into_iter().chain(shown).flatten() {
        let text = |field: &str| event[field].as_str().map(ToOwned::to_owned);
        if let Some(key) = text("state_key") {
            state.insert((text("type").unwrap(), key), text("event_id").unwrap());
        }
    }
}

/// The room's state as the server tells it to the user.
pub async fn state_of(user: &User, room: &str) -> State {
    let state = user.read(&format!("/rooms/{}/state", esc(room))).await;
    let events = state.as_array().unwrap().iter();
    events
        .map(|event| {
            let text = |field: &str| event[field].as_str().unwrap().to_owned();
            ((text("type"), text("state_key")), text("event_id"))
        })
        .collect()
}
