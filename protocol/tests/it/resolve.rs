//! State resolution as stories, and against graphs that are large, strange or incomplete.

use std::{cell::Cell, collections::HashMap, sync::Arc};

use rhizome_protocol::{
    Pdu, RoomRules, StateKey,
    resolve::{Events, Missing, StateMap, resolve},
    rules::EventIdFormat,
};
use ruma::{EventId, OwnedEventId};
use serde_json::json;

use crate::room::{ALICE, BOB, CARL, DORA, Room, VERSIONS, levels, member, state};

/// The algorithms since version 2 tell these stories alike; version 1's are in `resolve_v1`.
fn each(story: impl Fn(Room, OwnedEventId)) {
    for version in &VERSIONS[1..] {
        let (room, last) = Room::lively(version);
        story(room, last);
    }
}

fn levels_of(room: &Room, bob: i64, carl: i64) -> serde_json::Value {
    let mut users = json!({BOB: bob, CARL: carl});
    if !room.rules.auth.privileged_creators {
        users[ALICE] = json!(100);
    }
    json!({ "users": users })
}

/// Carl is banned on one side while he does things on the other: the ban holds, and what he did goes.
#[test]
fn a_ban_beats_what_the_banned_does_elsewhere() {
    each(|mut room, last| {
        let power = levels(levels_of(&room, 50, 50));
        let last = room.send(&[last], ALICE, &power);
        let ban = room.send(&[last.clone()], ALICE, &member(CARL, "ban"));
        let topic = room.send(
            &[last.clone()],
            CARL,
            &state("m.room.topic", "", json!({"topic": "mine"})),
        );
        let renamed = room.send(&[topic], CARL, &member(CARL, "join"));
        assert_eq!(
            room.merged(&[&ban, &renamed], "m.room.member", CARL),
            Some(ban.clone())
        );
        assert_eq!(room.merged(&[&ban, &renamed], "m.room.topic", ""), None);
        // Evasion by rejoining from before the ban, long after.
        let rejoined = room.chain(
            &[last],
            &[(CARL, member(CARL, "leave")), (CARL, member(CARL, "join"))],
        );
        assert_eq!(
            room.merged(&[&ban, &rejoined], "m.room.member", CARL),
            Some(ban)
        );
    });
}

/// Alice demotes Bob while Bob promotes Carl: the demotion comes first, so the promotion falls.
#[test]
fn demotion_beats_promotion() {
    each(|mut room, last| {
        let (demotion, promotion) = (
            levels(levels_of(&room, 0, 0)),
            levels(levels_of(&room, 50, 50)),
        );
        let promoted = room.send(&[last.clone()], BOB, &promotion);
        let demoted = room.send(&[last], ALICE, &demotion);
        assert_eq!(
            room.merged(&[&promoted, &demoted], "m.room.power_levels", ""),
            Some(demoted.clone())
        );
        // What Carl does with his new power falls with it.
        let topic = room.send(&[promoted], CARL, &state("m.room.topic", "", json!({})));
        assert_eq!(room.merged(&[&topic, &demoted], "m.room.topic", ""), None);
    });
}

/// Two ban each other, Carl with the power that he got on one side only: he has more, so his ban holds.
#[test]
fn of_two_bans_the_mightier_holds() {
    each(|mut room, last| {
        let power = levels(levels_of(&room, 50, 60));
        let by_bob = room.send(&[last.clone()], BOB, &member(CARL, "ban"));
        let by_carl = room.chain(&[last], &[(ALICE, power), (CARL, member(BOB, "ban"))]);
        assert_eq!(
            room.merged(&[&by_bob, &by_carl], "m.room.member", BOB),
            Some(by_carl.clone())
        );
        let carl = room
            .merged(&[&by_bob, &by_carl], "m.room.member", CARL)
            .unwrap();
        assert_ne!(carl, by_bob);
        assert_eq!(
            room.events[&carl].membership(),
            Some(rhizome_protocol::Membership::Join)
        );
    });
}

/// Closing the room beats joining it at the same time.
#[test]
fn closing_beats_joining() {
    each(|mut room, last| {
        let join = room.send(&[last.clone()], DORA, &member(DORA, "join"));
        let closed = room.send(
            &[last],
            ALICE,
            &state("m.room.join_rules", "", json!({"join_rule": "invite"})),
        );
        assert_eq!(room.merged(&[&join, &closed], "m.room.member", DORA), None);
    });
}

/// Ordinary state: later timestamps win on the same power levels.
#[test]
fn the_later_topic_wins() {
    each(|mut room, last| {
        let first = room.send(
            &[last.clone()],
            BOB,
            &state("m.room.topic", "", json!({"topic": 1})),
        );
        let second = room.send(
            &[last.clone()],
            ALICE,
            &state("m.room.topic", "", json!({"topic": 2})),
        );
        let name = room.send(
            &[last],
            ALICE,
            &state("m.room.name", "", json!({"name": "x"})),
        );
        assert_eq!(
            room.merged(&[&second, &first, &name], "m.room.topic", ""),
            Some(second.clone())
        );
        assert_eq!(
            room.merged(&[&second, &first, &name], "m.room.name", ""),
            Some(name)
        );
    });
}

/// On a newer mainline, an older timestamp wins over a newer one on an older mainline.
#[test]
fn newer_power_levels_beat_newer_timestamps() {
    each(|mut room, last| {
        let power = levels(levels_of(&room, 50, 20));
        let powered = room.send(&[last.clone()], ALICE, &power);
        let new_mainline = room.send(
            &[powered],
            BOB,
            &state("m.room.topic", "", json!({"topic": "new"})),
        );
        let old_mainline = room.send(
            &[last],
            BOB,
            &state("m.room.topic", "", json!({"topic": "old"})),
        );
        assert_eq!(
            room.merged(&[&old_mainline, &new_mainline], "m.room.topic", ""),
            Some(new_mainline)
        );
    });
}

/// A rejected event is not used as an auth event, and doesn't come into the state.
#[test]
fn rejected_auth_events_are_not_used() {
    each(|mut room, last| {
        let dora = room.send(&[last.clone()], DORA, &member(DORA, "join"));
        let topic = room.send(
            &[last.clone()],
            ALICE,
            &state("m.room.topic", "", json!({})),
        );
        let renamed = room.send(&[dora.clone()], DORA, &member(DORA, "join"));
        assert_eq!(
            room.merged(&[&renamed, &topic], "m.room.member", DORA),
            Some(renamed.clone())
        );
        let power = room.before(&[last])[&StateKey::new("m.room.power_levels", "")].clone();
        // As if the first join and the levels had been rejected after all.
        room.rejected.extend([dora, power]);
        let forks = [room.after[&renamed].clone(), room.after[&topic].clone()];
        assert!(resolve(room.rules, &forks, &room).is_ok());
    });
}

/// Some events of a room.
struct Part<'a> {
    room: &'a Room,
    hidden: Vec<OwnedEventId>,
}

impl Events for Part<'_> {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        if self.hidden.iter().any(|hidden| hidden == id) {
            None
        } else {
            self.room.event(id)
        }
    }
    fn rejected(&self, id: &EventId) -> bool {
        self.room.rejected(id)
    }
}

#[test]
fn missing_events_are_named_until_none_is_missing() {
    each(|mut room, last| {
        let power = levels(levels_of(&room, 50, 50));
        let powered = room.chain(
            &[last.clone()],
            &[(ALICE, power), (CARL, state("m.room.topic", "", json!({})))],
        );
        let banned = room.chain(
            &[last],
            &[
                (BOB, member(CARL, "leave")),
                (CARL, member(CARL, "join")),
                (BOB, member(CARL, "ban")),
            ],
        );
        let forks = [room.after[&powered].clone(), room.after[&banned].clone()];
        let whole = resolve(room.rules, &forks, &room).unwrap();

        let mut some = Part {
            room: &room,
            hidden: room.events.keys().cloned().collect(),
        };
        let mut rounds = 0;
        loop {
            match resolve(room.rules, &forks, &some) {
                Ok(state) => break assert_eq!(state, whole),
                Err(Missing(ids)) => {
                    assert!(!ids.is_empty() && ids.is_sorted());
                    assert!(
                        ids.iter().all(|id| some.hidden.contains(id)),
                        "only what is missing is asked for"
                    );
                    some.hidden.retain(|id| !ids.contains(id));
                }
            }
            rounds += 1;
            assert!(rounds < 10);
        }
        // Each lone event that is missing is either named or not needed.
        for id in room.events.keys() {
            match resolve(
                room.rules,
                &forks,
                &Part {
                    room: &room,
                    hidden: vec![id.clone()],
                },
            ) {
                Ok(state) => assert_eq!(state, whole),
                Err(Missing(ids)) => assert_eq!(ids, [id.clone()]),
            }
        }
    });
}

#[test]
fn without_conflict_nothing_is_looked_at() {
    let (room, last) = Room::lively("12");
    let nothing = Part {
        room: &room,
        hidden: room.events.keys().cloned().collect(),
    };
    let state = room.after[&last].clone();
    assert_eq!(resolve(room.rules, &[], &nothing), Ok(StateMap::new()));
    assert_eq!(
        resolve(room.rules, std::slice::from_ref(&state), &nothing),
        Ok(state.clone())
    );
    assert_eq!(
        resolve(
            room.rules,
            &[state.clone(), state.clone(), state.clone()],
            &nothing
        ),
        Ok(state)
    );
}

/// Events as the database might give them: their ids are not their hashes, so that they may go in circles.
#[derive(Default)]
struct Circles {
    events: HashMap<OwnedEventId, Arc<Pdu>>,
    /// How often one was asked for.
    asked: Cell<usize>,
}

impl Events for Circles {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.asked.set(self.asked.get() + 1);
        self.events.get(id).cloned()
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
        let mut events = Circles::default();
        let mut add = |id: &str,
                       kind: &str,
                       key: &str,
                       content: serde_json::Value,
                       auth: &[&str]| {
            let json = json!({"type": kind, "state_key": key, "sender": ALICE, "room_id": "!create", "content": content,
                "auth_events": named(rules, auth), "prev_events": [], "depth": 1, "origin_server_ts": 1, "hashes": {}, "signatures": {}});
            let id = EventId::parse(id).unwrap();
            let pdu = Pdu::from_stored(rules, id.clone(), json.to_string().into()).unwrap();
            events.events.insert(id, Arc::new(pdu));
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
        let mut events = Circles::default();
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
            events.events.insert(
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
        let state = resolve(rules, &forks, &events).unwrap();
        assert!(state.contains_key(&StateKey::new("m.room.power_levels", "")));
        // Each event a few times, however long the chains are.
        let (asked, all) = (events.asked.get(), events.events.len());
        assert!(asked < 20 * all, "{version}: {asked} times for {all}");
    }
}
