//! What a client makes of `/sync`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A room's state: event ids by type and state key.
pub type State = BTreeMap<(String, String), String>;

/// What a client believes, from nothing but what it was told.
#[derive(Debug, Default)]
pub struct View {
    pub since: Option<String>,
    /// The rooms that the user is in.
    pub rooms: BTreeMap<String, Seen>,
    /// Messages to the device: who has written, and the message's number.
    pub heard: Vec<(String, u64)>,
    /// What can't be.
    pub wrong: Vec<String>,
}

/// What a client knows of a room.
#[derive(Debug, Default)]
pub struct Seen {
    pub state: State,
    /// What was said, since the last gap that it was told of.
    pub said: Vec<String>,
}

impl View {
    /// Takes in an answer.
    pub fn hears(&mut self, sync: &Value) {
        self.since = sync["next_batch"].as_str().map(ToOwned::to_owned);
        for (room, part) in section(sync, "join") {
            let seen = self.rooms.entry(room.clone()).or_default();
            seen.hears_state(part);
            let is_told_twice = seen.hears_said(part);
            self.wrong
                .extend(is_told_twice.map(|id| format!("{id} was told twice")));
        }
        // Who is invited again was put out in the meantime.
        for (room, _) in section(sync, "leave").chain(section(sync, "invite")) {
            self.rooms.remove(room);
        }
        for event in list(&sync["to_device"]["events"]) {
            let from = event["sender"].as_str().unwrap_or_default().to_owned();
            match event["content"]["n"].as_u64() {
                Some(n) => self.heard.push((from, n)),
                None => self.wrong.push(format!("nobody has written {event}")),
            }
        }
    }
}

impl Seen {
    /// The state that comes first, then that of the timeline; or all of it at once.
    fn hears_state(&mut self, part: &Value) {
        let after = part.get("state_after");
        let told = after.unwrap_or(&part["state"]);
        let shown: &[Value] = if after.is_some() {
            &[]
        } else {
            list(&part["timeline"]["events"])
        };
        for event in list(&told["events"]).iter().chain(shown) {
            self.state.extend(entry(event));
        }
    }

    /// What is said and stays in its place: no state, of which a fork's end may undo some, and no redactions, which are
    /// shown when what they redact has come. Gives what was told before.
    fn hears_said(&mut self, part: &Value) -> Option<String> {
        if part["timeline"]["limited"] == true {
            self.said.clear();
        }
        let mut is_told_twice = None;
        for event in list(&part["timeline"]["events"]) {
            let id = event["event_id"].as_str().unwrap_or_default().to_owned();
            if event.get("state_key").is_some() || event["type"] == "m.room.redaction" {
                continue;
            }
            if self.said.contains(&id) {
                is_told_twice = Some(id.clone());
            }
            self.said.push(id);
        }
        is_told_twice
    }
}

/// The rooms of a part of an answer.
fn section<'a>(sync: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    sync["rooms"][name].as_object().into_iter().flatten()
}

fn list(events: &Value) -> &[Value] {
    events.as_array().map_or(&[], Vec::as_slice)
}

/// A state event's key and its id.
fn entry(event: &Value) -> Option<((String, String), String)> {
    let text = |field: &str| event[field].as_str().map(ToOwned::to_owned);
    Some(((text("type")?, text("state_key")?), text("event_id")?))
}

/// A state as it is told by `/rooms/{roomId}/state`.
pub fn state_of(events: &Value) -> State {
    list(events).iter().filter_map(entry).collect()
}

/// In what a client that has followed differs from one that asks for all of it.
pub fn differences(followed: &View, whole: &View) -> Vec<String> {
    let mut wrong = Vec::new();
    let rooms = followed.rooms.keys().chain(whole.rooms.keys());
    let rooms: BTreeSet<&String> = rooms.collect();
    for room in rooms {
        let (Some(one), Some(other)) = (followed.rooms.get(room), whole.rooms.get(room)) else {
            let is_followed = followed.rooms.contains_key(room);
            wrong.push(format!("believes to be in {room}: {is_followed}"));
            continue;
        };
        if one.state != other.state {
            let of = |one: &State, other: &State| {
                let differs = one.iter().filter(|(key, id)| other.get(*key) != Some(*id));
                differs
                    .map(|(key, id)| format!("{key:?} {id}"))
                    .collect::<Vec<_>>()
            };
            let (followed, whole) = (of(&one.state, &other.state), of(&other.state, &one.state));
            wrong.push(format!("state of {room}: {followed:?} for {whole:?}"));
        }
        let both = one.said.len().min(other.said.len());
        let (told, all) = (last(&one.said, both), last(&other.said, both));
        if told != all {
            wrong.push(format!("timeline of {room}: {told:?} for {all:?}"));
        }
    }
    wrong
}

fn last(list: &[String], count: usize) -> &[String] {
    &list[list.len() - count..]
}
