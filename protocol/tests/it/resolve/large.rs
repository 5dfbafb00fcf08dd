//! Graphs that go in circles, and large ones.

use std::{collections::HashMap, sync::Arc, time::Instant};

use rhizome_protocol::{
    Pdu, RoomRules, StateKey,
    resolve::{Events, StateMap, resolve},
    rules::EventIdFormat,
};
use ruma::{EventId, OwnedEventId};
use serde_json::json;

use crate::room::{ALICE, VERSIONS};

/// Events as the database might give them: their ids are not their hashes, so that they may go in circles.
struct Circles(HashMap<OwnedEventId, Arc<Pdu>>);

impl Events for Circles {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.0.get(id).cloned()
    }
    fn rejected(&self, _: &EventId) -> bool {
        false
    }
}

/// Events as `auth_events` names them.
fn named(rules: &RoomRules, ids: &[&str]) -> serde_json::Value {
    match rules.format.event_id {
        EventIdFormat::Explicit => ids.iter().map(|id| json!([id, {}])).collect(),
        _ => json!(ids),
    }
}

#[test]
fn circles_end() {
    for version in VERSIONS {
        let rules = RoomRules::named(version).unwrap();
        let mut events = Circles(HashMap::new());
        let mut add = |id: &str,
                       kind: &str,
                       key: &str,
                       content: serde_json::Value,
                       auth: &[&str]| {
            let json = json!({"type": kind, "state_key": key, "sender": ALICE, "room_id": "!create", "content": content,
                "auth_events": named(rules, auth), "prev_events": [], "depth": 1, "origin_server_ts": 1, "hashes": {}, "signatures": {}});
            let id = EventId::parse(id).unwrap();
            let pdu = Pdu::from_stored(rules, id.clone(), json.to_string().into()).unwrap();
            events.0.insert(id, Arc::new(pdu));
        };
        add(
            "$p1",
            "m.room.power_levels",
            "",
            json!({}),
            &["$p2", "$m", "$p1"],
        );
        add("$p2", "m.room.power_levels", "", json!({}), &["$p3", "$p3"]);
        add("$p3", "m.room.power_levels", "", json!({}), &["$p1", "$t1"]);
        add(
            "$m",
            "m.room.member",
            ALICE,
            json!({"membership": "join"}),
            &["$m", "$p1"],
        );
        add("$t1", "m.room.topic", "", json!({}), &["$p1", "$m"]);
        add("$t2", "m.room.topic", "", json!({}), &["$p2", "$m"]);
        add("$message", "m.room.message", "", json!({}), &["$t2"]);
        add("$create", "x", "", json!({}), &[]);
        let fork = |power: &str, topic: &str| {
            StateMap::from([
                (
                    StateKey::new("m.room.power_levels", ""),
                    EventId::parse(power).unwrap(),
                ),
                (
                    StateKey::new("m.room.topic", ""),
                    EventId::parse(topic).unwrap(),
                ),
                (
                    StateKey::new("m.room.member", ALICE),
                    EventId::parse("$m").unwrap(),
                ),
            ])
        };
        let _ = resolve(
            rules,
            &[
                fork("$p1", "$t1"),
                fork("$p2", "$t2"),
                fork("$p3", "$message"),
            ],
            &events,
        )
        .unwrap();
    }
}

/// Ten thousand changes of power on either side of a fork.
#[test]
fn long_chains_take_linear_time() {
    for version in ["11", "12"] {
        let rules = RoomRules::named(version).unwrap();
        let mut events = Circles(HashMap::new());
        let mut add = |id: String,
                       kind: &str,
                       key: &str,
                       content: serde_json::Value,
                       auth: &[String],
                       ts: usize| {
            let mut json = json!({"type": kind, "state_key": key, "sender": ALICE, "room_id": "!create", "content": content,
                "auth_events": auth, "prev_events": [], "depth": 1, "origin_server_ts": ts, "hashes": {}, "signatures": {}});
            if kind == "m.room.create" && rules.format.room_id_is_create_hash {
                json.as_object_mut().unwrap().remove("room_id");
            }
            let id = EventId::parse(id).unwrap();
            events.0.insert(
                id.clone(),
                Arc::new(Pdu::from_stored(rules, id, json.to_string().into()).unwrap()),
            );
        };
        let base = |rest: &[&str]| {
            let create: &[&str] = if rules.format.create_in_auth_events {
                &["$create"]
            } else {
                &[]
            };
            create
                .iter()
                .chain(rest)
                .map(|id| (*id).to_owned())
                .collect::<Vec<_>>()
        };
        add("$create".into(), "m.room.create", "", json!({}), &[], 0);
        add(
            "$m".into(),
            "m.room.member",
            ALICE,
            json!({"membership": "join"}),
            &base(&[]),
            1,
        );
        let mut forks = Vec::new();
        for side in ["a", "b"] {
            let mut power = None;
            for n in 0..10_000 {
                let id = format!("${side}{n}");
                let auth = power
                    .iter()
                    .map(String::as_str)
                    .chain(["$m"])
                    .collect::<Vec<_>>();
                add(
                    id.clone(),
                    "m.room.power_levels",
                    "",
                    json!({"users_default": n % 2}),
                    &base(&auth),
                    n,
                );
                power = Some(id);
            }
            let topic = format!("$topic{side}");
            add(
                topic.clone(),
                "m.room.topic",
                "",
                json!({}),
                &base(&["$m", power.as_ref().unwrap()]),
                20_000,
            );
            let mut fork = StateMap::new();
            for (kind, key, id) in [
                ("m.room.create", "", "$create"),
                ("m.room.member", ALICE, "$m"),
                ("m.room.power_levels", "", power.as_ref().unwrap()),
                ("m.room.topic", "", &topic),
            ] {
                fork.insert(StateKey::new(kind, key), EventId::parse(id).unwrap());
            }
            forks.push(fork);
        }
        let started = Instant::now();
        let state = resolve(rules, &forks, &events).unwrap();
        assert!(state.contains_key(&StateKey::new("m.room.power_levels", "")));
        let took = started.elapsed();
        println!("version {version}: 20,000 conflicted events in {took:?}");
        assert!(took.as_secs() < 20, "{took:?}");
    }
}
