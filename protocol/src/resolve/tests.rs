//! Graphs that no server would make: circles, and histories of tens of thousands of changes.

use std::{cell::Cell, collections::HashMap, sync::Arc};

use ruma::{EventId, OwnedEventId};
use serde_json::{Value, json};

use super::{Events, StateMap, resolve};
use crate::{Pdu, RoomRules, StateKey, rules::EventIdFormat};

const ALICE: &str = "@alice:one.org";

thread_local! {
    static LOOKS: Cell<usize> = const { Cell::new(0) };
}

/// Counts that the graph was looked at: what the work of a resolution consists of.
pub(super) fn count_look() {
    LOOKS.set(LOOKS.get() + 1);
}

/// Events as the database might give them: their ids are not their hashes, so that they may go in circles.
struct Invented {
    rules: &'static RoomRules,
    events: HashMap<OwnedEventId, Arc<Pdu>>,
}

impl Events for Invented {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        count_look();
        self.events.get(id).cloned()
    }
    fn rejected(&self, _: &EventId) -> bool {
        false
    }
}

impl Invented {
    fn new(rules: &'static RoomRules) -> Self {
        Self {
            rules,
            events: HashMap::new(),
        }
    }

    /// Adds a state event of Alice's.
    #[expect(clippy::needless_pass_by_value, reason = "reads better so")]
    fn add(
        &mut self,
        id: &str,
        (kind, key): (&str, &str),
        content: Value,
        auth: &[&str],
        ts: usize,
    ) {
        let auth = match self.rules.format.event_id {
            EventIdFormat::Explicit => auth.iter().map(|id| json!([id, {}])).collect(),
            _ => json!(auth),
        };
        let mut json = json!({"type": kind, "state_key": key, "sender": ALICE, "room_id": "!create", "content": content,
            "auth_events": auth, "prev_events": [], "depth": 1, "origin_server_ts": ts, "hashes": {}, "signatures": {}});
        if kind == "m.room.create" && self.rules.format.room_id_is_create_hash {
            json.as_object_mut().unwrap().remove("room_id");
        }
        let id = EventId::parse(id).unwrap();
        let pdu = Pdu::from_stored(self.rules, id.clone(), json.to_string().into()).unwrap();
        self.events.insert(id, Arc::new(pdu));
    }
}

const LEVELS: (&str, &str) = ("m.room.power_levels", "");
const TOPIC: (&str, &str) = ("m.room.topic", "");
const MEMBER: (&str, &str) = ("m.room.member", ALICE);
const CREATE: (&str, &str) = ("m.room.create", "");

fn state(entries: &[((&str, &str), &str)]) -> StateMap {
    let entry = |((kind, key), id): &((&str, &str), &str)| {
        (StateKey::new(*kind, *key), EventId::parse(*id).unwrap())
    };
    entries.iter().map(entry).collect()
}

#[test]
fn circles_end() {
    for rules in RoomRules::supported() {
        let mut events = Invented::new(rules);
        let joined = json!({"membership": "join"});
        events.add("$p1", LEVELS, json!({}), &["$p2", "$m", "$p1"], 1);
        events.add("$p2", LEVELS, json!({}), &["$p3", "$p3"], 1);
        events.add("$p3", LEVELS, json!({}), &["$p1", "$t1"], 1);
        events.add("$m", MEMBER, joined, &["$m", "$p1"], 1);
        events.add("$t1", TOPIC, json!({}), &["$p1", "$m"], 1);
        events.add("$t2", TOPIC, json!({}), &["$p2", "$m"], 1);
        events.add("$message", ("m.room.message", ""), json!({}), &["$t2"], 1);
        events.add("$create", ("x", ""), json!({}), &[], 1);
        let fork = |levels, topic| state(&[(LEVELS, levels), (TOPIC, topic), (MEMBER, "$m")]);
        let forks = [
            fork("$p1", "$t1"),
            fork("$p2", "$t2"),
            fork("$p3", "$message"),
        ];
        let _ = resolve(rules, &forks, &events).unwrap();
    }
}

/// How often a resolution looks at events, of a room with `count` changes of power on either side of a fork,
/// and some state that rests on one each.
fn looks_at(rules: &'static RoomRules, count: usize) -> usize {
    let mut events = Invented::new(rules);
    let first: &[&str] = if rules.format.create_in_auth_events {
        &["$create"]
    } else {
        &[]
    };
    events.add("$create", CREATE, json!({}), &[], 0);
    events.add("$m", MEMBER, json!({"membership": "join"}), first, 1);
    let mut forks = Vec::new();
    for side in ["a", "b"] {
        let mut auth = [first, &["$m"]].concat();
        let mut rests = Vec::new();
        let ids: Vec<String> = (0..count).map(|n| format!("${side}{n}")).collect();
        for (n, id) in ids.iter().enumerate() {
            let content = json!({"users_default": n % 2});
            events.add(id, LEVELS, content, &auth, n);
            auth.truncate(first.len() + 1);
            auth.push(id);
            if n % 10 == 0 {
                events.add(&format!("{id}x"), ("x", id), json!({}), &auth, n);
                rests.push((id.clone(), format!("{id}x")));
            }
        }
        let topic = format!("$topic{side}");
        events.add(&topic, TOPIC, json!({}), &auth, 2 * count);
        let levels = ids.last().unwrap();
        let mut entries = vec![(CREATE, "$create"), (MEMBER, "$m")];
        entries.extend([(LEVELS, &**levels), (TOPIC, &*topic)]);
        entries.extend(rests.iter().map(|(key, id)| (("x", &**key), &**id)));
        forks.push(state(&entries));
    }
    LOOKS.set(0);
    let settled = resolve(rules, &forks, &events).unwrap();
    assert!(settled.contains_key(&StateKey::new(LEVELS.0, LEVELS.1)));
    LOOKS.get()
}

/// Four times as many changes cost four times as much.
#[test]
fn long_histories_take_linear_time() {
    for version in ["11", "12"] {
        let rules = RoomRules::named(version).unwrap();
        let (few, many) = (looks_at(rules, 2_500), looks_at(rules, 10_000));
        println!("version {version}: {few} looks for 5,000 events, {many} for 20,000");
        assert!(few >= 5_000 && many < 5 * few, "{few} {many}");
    }
}
