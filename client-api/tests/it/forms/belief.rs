//! What a client believes, from nothing but what it is told; and what is so.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    harness::{User, esc, filter},
    model::{State, state_of},
};

/// What a client believes of a room.
#[derive(Clone, Default, Debug)]
pub struct Room {
    /// `join`, `invite`, `knock`; a room that was left isn't held.
    pub membership: String,
    pub state: State,
    /// The end of its history, without a gap.
    pub timeline: Vec<String>,
    /// Notifications and highlights, if it was told.
    pub counts: Option<(i64, i64)>,
    pub joined: Option<i64>,
    pub tags: Value,
}

/// What a client believes.
#[derive(Clone, Default, Debug)]
pub struct Belief {
    pub rooms: BTreeMap<String, Room>,
    /// A piece of global account data.
    pub colour: Value,
    /// Numbers of the messages to its device.
    pub mail: Vec<u64>,
}

/// The type of account data that stories change.
pub const COLOUR: &str = "org.test.colour";

impl Belief {
    /// What an answer of `/sync`, or a frame of its shape, tells.
    pub fn hear(&mut self, told: &Value) {
        self.hear_account_data(&told["account_data"]["events"]);
        self.hear_mail(&told["to_device"]["events"]);
        let empty = serde_json::Map::new();
        let section = |name: &str| told["rooms"][name].as_object().unwrap_or(&empty).iter();
        for (id, part) in section("join") {
            let room = self.rooms.entry(id.clone()).or_default();
            if room.membership != "join" {
                *room = Room::default();
            }
            "join".clone_into(&mut room.membership);
            room.hear(part);
        }
        for (id, _) in section("leave") {
            self.rooms.remove(id);
        }
        for (name, membership) in [("invite", "invite"), ("knock", "knock")] {
            for (id, _) in section(name) {
                let membership = membership.to_owned();
                let room = Room {
                    membership,
                    ..Room::default()
                };
                self.rooms.insert(id.clone(), room);
            }
        }
    }

    /// What an answer of sliding sync tells; the user's own id says which member is theirs.
    pub fn hear_sliding(&mut self, told: &Value, own: &str) {
        let extensions = &told["extensions"];
        self.hear_mail(&extensions["to_device"]["events"]);
        let empty = serde_json::Map::new();
        for (id, part) in told["rooms"].as_object().unwrap_or(&empty) {
            if part["invite_state"].is_array() {
                let membership = "invite".to_owned();
                let room = Room {
                    membership,
                    ..Room::default()
                };
                self.rooms.insert(id.clone(), room);
                continue;
            }
            let room = self.rooms.entry(id.clone()).or_default();
            if part["initial"] == true {
                let tags = std::mem::take(&mut room.tags);
                *room = Room {
                    tags,
                    ..Room::default()
                };
            }
            if room.membership.is_empty() || room.membership == "invite" {
                "join".clone_into(&mut room.membership);
            }
            if room.hear_sliding(part, own) {
                self.rooms.remove(id);
            }
        }
        let data = &extensions["account_data"];
        self.hear_account_data(&data["global"]);
        for (id, events) in data["rooms"].as_object().unwrap_or(&empty) {
            if let Some(room) = self.rooms.get_mut(id) {
                room.hear_tags(events);
            }
        }
    }

    fn hear_account_data(&mut self, events: &Value) {
        for event in events.as_array().into_iter().flatten() {
            if event["type"] == COLOUR {
                self.colour = event["content"].clone();
            }
        }
    }

    fn hear_mail(&mut self, events: &Value) {
        for event in events.as_array().into_iter().flatten() {
            self.mail.extend(event["content"]["number"].as_u64());
        }
    }
}

fn text(event: &Value, field: &str) -> Option<String> {
    event[field].as_str().map(ToOwned::to_owned)
}

impl Room {
    fn hear(&mut self, part: &Value) {
        let after = part.get("state_after");
        let told = after.or(part.get("state")).unwrap()["events"].as_array();
        let shown = part["timeline"]["events"].as_array();
        for event in told
            .into_iter()
            .chain(shown.filter(|_| after.is_none()))
            .flatten()
        {
            self.hear_state(event);
        }
        let limited = part["timeline"]["limited"] == true;
        self.hear_timeline(&part["timeline"]["events"], limited);
        let counts = &part["unread_notifications"];
        let count = |name: &str| counts[name].as_i64();
        if let (Some(notify), Some(light)) = (count("notification_count"), count("highlight_count"))
        {
            self.counts = Some((notify, light));
        }
        self.joined = part["summary"]["m.joined_member_count"]
            .as_i64()
            .or(self.joined);
        self.hear_tags(&part["account_data"]["events"]);
    }

    /// Whether the room is over for the user.
    fn hear_sliding(&mut self, part: &Value, own: &str) -> bool {
        let mut over = false;
        for event in part["required_state"].as_array().into_iter().flatten() {
            self.hear_state(event);
            if event["type"] == "m.room.member" && event["state_key"] == own {
                let membership = event["content"]["membership"].as_str();
                over = matches!(membership, Some("leave" | "ban"));
            }
        }
        let anew = part["limited"] == true
            || part["initial"] == true
            || part["unstable_expanded_timeline"] == true;
        if anew {
            self.timeline.clear();
        }
        self.hear_timeline(&part["timeline"], false);
        let count = |name: &str| part[name].as_i64();
        if let (Some(notify), Some(light)) = (count("notification_count"), count("highlight_count"))
        {
            self.counts = Some((notify, light));
        }
        self.joined = count("joined_count").or(self.joined);
        over
    }

    fn hear_state(&mut self, event: &Value) {
        if let (Some(kind), Some(key)) = (text(event, "type"), text(event, "state_key")) {
            match text(event, "event_id") {
                Some(id) => drop(self.state.insert((kind, key), id)),
                None => drop(self.state.remove(&(kind, key))),
            }
        }
    }

    fn hear_timeline(&mut self, events: &Value, limited: bool) {
        if limited {
            self.timeline.clear();
        }
        for event in events.as_array().into_iter().flatten() {
            let id = text(event, "event_id").unwrap();
            assert!(!self.timeline.contains(&id), "{id} was told twice: {event}");
            self.timeline.push(id);
        }
    }

    fn hear_tags(&mut self, events: &Value) {
        for event in events.as_array().into_iter().flatten() {
            if event["type"] == "m.tag" {
                self.tags = event["content"]["tags"].clone();
            }
        }
    }
}

/// What the server says when it is asked anew, without a position, and room by room.
async fn truth(user: &User) -> Belief {
    let all = json!({ "room": { "timeline": { "limit": 400 } } });
    let mut truth = Belief::default();
    truth.hear(&user.sync(None, &filter(&all)).await);
    for (id, room) in &mut truth.rooms {
        if room.membership == "join" {
            room.state = state_of(user, id).await;
            let members = user
                .read(&format!("/rooms/{}/joined_members", esc(id)))
                .await;
            let joined = members["joined"].as_object().unwrap().len();
            room.joined = Some(i64::try_from(joined).unwrap());
        }
    }
    truth
}

/// What is wrong with what a client of the user believes, in words.
pub async fn mistake(belief: &Belief, user: &User) -> Option<String> {
    let truth = truth(user).await;
    let names = |belief: &Belief| -> BTreeSet<(String, String)> {
        let rooms = belief.rooms.iter();
        let held = rooms.map(|(id, room)| (id.clone(), room.membership.clone()));
        held.collect()
    };
    let (told, right) = (names(belief), names(&truth));
    if told != right {
        return Some(format!("it holds {told:?} instead of {right:?}"));
    }
    if belief.colour != truth.colour {
        return Some(format!("{} instead of {}", belief.colour, truth.colour));
    }
    for (id, held) in belief
        .rooms
        .iter()
        .filter(|(_, room)| room.membership == "join")
    {
        if let Some(why) = differs(held, &truth.rooms[id]) {
            return Some(format!("{id}: {why}"));
        }
        for event in &held.timeline {
            let path = format!("/rooms/{}/event/{}", esc(id), esc(event));
            let (status, answer) = user.get(&path).await;
            if status != StatusCode::OK {
                return Some(format!("{id}: it was told {event}: {answer}"));
            }
        }
    }
    None
}

fn differs(held: &Room, right: &Room) -> Option<String> {
    if held.state != right.state {
        let wrong: Vec<_> = held
            .state
            .iter()
            .filter(|(key, id)| right.state.get(*key) != Some(id))
            .collect();
        let lacks: Vec<_> = right
            .state
            .iter()
            .filter(|(key, _)| !held.state.contains_key(*key))
            .collect();
        return Some(format!(
            "of the state {wrong:?} is wrong, {lacks:?} is missing"
        ));
    }
    let shorter = held.timeline.len().min(right.timeline.len());
    let end = |timeline: &[String]| timeline[timeline.len() - shorter..].to_vec();
    if end(&held.timeline) != end(&right.timeline) || (shorter == 0 && !right.timeline.is_empty()) {
        return Some(format!(
            "the timeline is {:?} instead of {:?}",
            held.timeline, right.timeline
        ));
    }
    if held.counts != right.counts {
        return Some(format!(
            "{:?} are unread instead of {:?}",
            held.counts, right.counts
        ));
    }
    if held.joined != right.joined {
        return Some(format!(
            "{:?} are joined instead of {:?}",
            held.joined, right.joined
        ));
    }
    let none = |tags: &Value| tags.as_object().is_none_or(serde_json::Map::is_empty);
    if held.tags != right.tags && !(none(&held.tags) && none(&right.tags)) {
        return Some(format!(
            "the tags are {} instead of {}",
            held.tags, right.tags
        ));
    }
    None
}
