//! A room in memory, so that a test states only what matters.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{
    Object, Pdu, Rejection, RoomRules, StateKey,
    auth::{auth_keys, authorize, check_auth_events},
    draft::{self, Draft, Place},
    resolve::{Events, StateMap, resolve},
    sign::KeyPair,
};
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::{Value, json};

use crate::naive;

pub const VERSIONS: [&str; 12] = [
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12",
];

pub const ALICE: &str = "@alice:one.org";
pub const BOB: &str = "@bob:two.org";
pub const CARL: &str = "@carl:three.org";
pub const DORA: &str = "@dora:four.org";

/// All events of a room, with the state after each.
pub struct Room {
    pub rules: &'static RoomRules,
    pub room_id: OwnedRoomId,
    pub events: HashMap<OwnedEventId, Arc<Pdu>>,
    pub rejected: HashSet<OwnedEventId>,
    pub after: HashMap<OwnedEventId, StateMap>,
    pub naive: naive::Events,
    pub create: OwnedEventId,
    key: KeyPair,
    clock: i64,
}

/// What is sent.
#[derive(Clone)]
pub struct What {
    pub kind: &'static str,
    pub key: Option<String>,
    pub content: Value,
    pub redacts: Option<String>,
}

pub fn state(kind: &'static str, key: &str, content: Value) -> What {
    What {
        kind,
        key: Some(key.to_owned()),
        content,
        redacts: None,
    }
}

pub fn member(target: &str, membership: &str) -> What {
    state("m.room.member", target, json!({ "membership": membership }))
}

pub fn levels(content: Value) -> What {
    state("m.room.power_levels", "", content)
}

pub fn message() -> What {
    What {
        kind: "m.room.message",
        key: None,
        content: json!({"body": "hi"}),
        redacts: None,
    }
}

pub fn object(value: Value) -> Object {
    let Value::Object(object) = value else {
        panic!("not an object")
    };
    object
}

pub fn user(id: &str) -> OwnedUserId {
    UserId::parse(id).unwrap()
}

impl Events for Room {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.events.get(id).cloned()
    }

    fn rejected(&self, id: &EventId) -> bool {
        self.rejected.contains(id)
    }
}

impl Room {
    /// Just a create event by Alice.
    pub fn bare(version: &str, content: Value) -> Self {
        let rules = RoomRules::named(version).unwrap();
        let mut room = Self {
            rules,
            room_id: RoomId::parse("!room:one.org").unwrap(),
            events: HashMap::new(),
            rejected: HashSet::new(),
            after: HashMap::new(),
            naive: naive::Events::new(),
            create: EventId::parse("$none").unwrap(),
            key: KeyPair::from_seed("a", &[1; 32]).unwrap(),
            clock: 1_000,
        };
        let mut content = object(content);
        content.insert("room_version".into(), version.into());
        let mut what = state("m.room.create", "", Value::Object(content));
        if rules.format.creator_in_content && what.content.get("creator").is_none() {
            what.content["creator"] = json!(ALICE);
        }
        let create = room.build(&StateMap::new(), &[], 1_000, ALICE, &what);
        room.room_id = create.room_id().to_owned();
        room.create = create.event_id().to_owned();
        let id = room.create.clone();
        let after = StateMap::from([(StateKey::new("m.room.create", ""), id.clone())]);
        room.naive
            .insert(id.to_string(), Self::naive(&create, false));
        room.events.insert(id.clone(), create);
        room.after.insert(id, after);
        room
    }

    /// Alice (100 or creator), Bob (50) and Carl (0) in a public room; returns the room and its last event.
    pub fn lively(version: &str) -> (Self, OwnedEventId) {
        let mut room = Self::bare(version, json!({}));
        let mut users = json!({ BOB: 50 });
        if !room.rules.auth.privileged_creators {
            users[ALICE] = json!(100);
        }
        let last = room.send_all(
            &[room.create.clone()],
            &[
                (ALICE, member(ALICE, "join")),
                (ALICE, levels(json!({ "users": users }))),
                (
                    ALICE,
                    state("m.room.join_rules", "", json!({"join_rule": "public"})),
                ),
                (BOB, member(BOB, "join")),
                (CARL, member(CARL, "join")),
            ],
        );
        (room, last)
    }

    /// The state before an event with these previous events.
    pub fn before(&self, prev: &[OwnedEventId]) -> StateMap {
        let forks: Vec<_> = prev.iter().map(|id| self.after[id].clone()).collect();
        resolve(self.rules, &forks, self).unwrap()
    }

    pub fn view(&self, state: &StateMap) -> HashMap<StateKey, Arc<Pdu>> {
        state
            .iter()
            .map(|(key, id)| (key.clone(), self.events[id].clone()))
            .collect()
    }

    /// Makes an event with auth events from `state`, and doesn't keep it.
    pub fn build(
        &self,
        state: &StateMap,
        prev: &[OwnedEventId],
        ts: i64,
        sender: &str,
        what: &What,
    ) -> Arc<Pdu> {
        self.build_with(|key| state.get(key).cloned(), prev, ts, sender, what)
    }

    /// Makes an event with the auth events that `choose` gives, and doesn't keep it.
    pub fn build_with(
        &self,
        mut choose: impl FnMut(&StateKey) -> Option<OwnedEventId>,
        prev: &[OwnedEventId],
        ts: i64,
        sender: &str,
        what: &What,
    ) -> Arc<Pdu> {
        let sender = user(sender);
        let is_create = what.kind == "m.room.create";
        let content = object(what.content.clone());
        let draft = Draft {
            room_id: (!is_create || !self.rules.format.room_id_is_create_hash)
                .then(|| self.room_id.clone()),
            sender: sender.clone(),
            kind: what.kind.to_owned(),
            state_key: what.key.clone(),
            content,
            redacts: what
                .redacts
                .as_deref()
                .map(|id| EventId::parse(id).unwrap()),
        };
        let keys = auth_keys(
            self.rules,
            &draft.kind,
            &sender,
            draft.state_key.as_deref(),
            &draft.content,
        );
        let auth_events = keys
            .into_iter()
            .filter_map(|(kind, key)| choose(&StateKey { kind, key }));
        let auth_events: Vec<_> = auth_events.collect();
        let hashes = prev
            .iter()
            .chain(&auth_events)
            .filter_map(|id| Some((id.clone(), self.events.get(id)?.reference_hash()?)));
        let place = Place {
            prev_events: prev.to_vec(),
            hashes: hashes.collect(),
            auth_events,
            depth: 1 + prev
                .iter()
                .map(|id| self.events[id].depth())
                .max()
                .unwrap_or(0),
            origin_server_ts: ts,
            sticky_ms: None,
        };
        Arc::new(
            draft::build(
                self.rules,
                &draft,
                &place,
                draft.sender.server_name(),
                &self.key,
            )
            .unwrap(),
        )
    }

    /// The event as the naive reading of the specification sees it.
    pub fn naive(event: &Pdu, rejected: bool) -> naive::Event {
        naive::Event {
            id: event.event_id().to_string(),
            json: serde_json::from_str(event.json()).unwrap(),
            rejected,
        }
    }

    /// Keeps an event and the state after it.
    pub fn keep(&mut self, event: Arc<Pdu>, before: StateMap, rejected: bool) -> OwnedEventId {
        let id = event.event_id().to_owned();
        let mut after = before;
        if rejected {
            self.rejected.insert(id.clone());
        } else if let Some(key) = event.state_key() {
            after.insert(StateKey::new(event.kind(), key), id.clone());
        }
        self.naive
            .insert(id.to_string(), Self::naive(&event, rejected));
        self.events.insert(id.clone(), event);
        self.after.insert(id.clone(), after);
        id
    }

    /// Sends if it is allowed.
    pub fn try_send(
        &mut self,
        prev: &[OwnedEventId],
        sender: &str,
        what: &What,
    ) -> Result<OwnedEventId, Rejection> {
        self.clock += 10;
        let before = self.before(prev);
        let event = self.build(&before, prev, self.clock, sender, what);
        let auth_events: Vec<_> = event
            .auth_events()
            .iter()
            .map(|id| (self.events[id].clone(), self.rejected.contains(id)))
            .collect();
        check_auth_events(&event, &auth_events)?;
        authorize(&event, &self.view(&before))?;
        Ok(self.keep(event, before, false))
    }

    /// Sends; it must be allowed.
    pub fn send(&mut self, prev: &[OwnedEventId], sender: &str, what: &What) -> OwnedEventId {
        match self.try_send(prev, sender, what) {
            Ok(id) => id,
            Err(rejection) => panic!("{sender} sends {} {:?}: {rejection}", what.kind, what.key),
        }
    }

    /// Sends one after the other and returns the last.
    pub fn send_all(&mut self, prev: &[OwnedEventId], events: &[(&str, What)]) -> OwnedEventId {
        let mut prev = prev.to_vec();
        for (sender, what) in events {
            prev = vec![self.send(&prev, sender, what)];
        }
        prev.remove(0)
    }

    /// The rule that forbids it.
    pub fn denied(&mut self, prev: &OwnedEventId, sender: &str, what: &What) -> &'static str {
        let prev = std::slice::from_ref(prev);
        match self.try_send(prev, sender, what) {
            Ok(_) => panic!(
                "{sender} may send {} {:?} {}",
                what.kind, what.key, what.content
            ),
            Err(rejection) => rejection.rule,
        }
    }

    /// The event that the merged forks have for a key.
    pub fn merged(&self, forks: &[&OwnedEventId], kind: &str, key: &str) -> Option<OwnedEventId> {
        let forks: Vec<_> = forks.iter().map(|id| (*id).clone()).collect();
        let state = self.before(&forks);
        let mut backwards = forks;
        backwards.reverse();
        assert_eq!(
            state,
            self.before(&backwards),
            "the order of forks doesn't matter"
        );
        state.get(&StateKey::new(kind, key)).cloned()
    }
}
