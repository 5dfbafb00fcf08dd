//! Rules 2 and 3: which auth events an event may name, and state that isn't its room's.

use rhizome_protocol::{
    StateKey,
    auth::{auth_keys, authorize, check_auth_events},
};
use ruma::RoomId;
use serde_json::{Value, json};

use super::each;
use crate::room::{ALICE, BOB, CARL, DORA, Room, levels, member, message, object, state, user};

#[test]
fn events_of_another_room() {
    let (mut room, last) = Room::lively("12");
    let (other, _) = {
        let mut other = Room::bare("12", json!({"x": 1}));
        let last = other.send(&[other.create.clone()], ALICE, &member(ALICE, "join"));
        (other, last)
    };
    let before = room.before(&[last.clone()]);
    let event = room.build(&before, &[last.clone()], 5, ALICE, &message());
    assert!(authorize(&event, &room.view(&before)).is_ok());
    // v12: the room id is the create event, so another room's state can't allow it.
    let foreign = other.view(&other.after[&other.create]);
    assert_eq!(authorize(&event, &foreign).unwrap_err().rule, "auth 2");
    let nothing: &[std::sync::Arc<rhizome_protocol::Pdu>] = &[];
    assert_eq!(authorize(&event, nothing).unwrap_err().rule, "auth 2");
    room.send(&[last], ALICE, &message());
}

#[test]
fn what_may_stand_in_auth_events() {
    each(|room, last| {
        let before = room.before(&[last.clone()]);
        let event = room.build(&before, &[last.clone()], 5, CARL, &message());
        let good: Vec<_> = event
            .auth_events()
            .iter()
            .map(|id| (room.events[id].clone(), false))
            .collect();
        assert_eq!(check_auth_events(&event, &good), Ok(()));
        let deny = |change: &dyn Fn(&mut Vec<_>)| {
            let mut bad = good.clone();
            change(&mut bad);
            check_auth_events(&event, &bad).unwrap_err().rule
        };
        assert_eq!(deny(&|list| list.push(list[0].clone())), "auth 3.1");
        let of = |kind: &str, key: &str| room.events[&before[&StateKey::new(kind, key)]].clone();
        assert_eq!(
            deny(&|list| list.push((of("m.room.join_rules", ""), false))),
            "auth 3.2"
        );
        assert_eq!(
            deny(&|list| list.push((of("m.room.member", BOB), false))),
            "auth 3.2"
        );
        assert_eq!(deny(&|list| list.push((event.clone(), false))), "auth 3.2");
        assert_eq!(deny(&|list| list[1].1 = true), "auth 3.3");
        let create = (of("m.room.create", ""), false);
        if room.rules.format.create_in_auth_events {
            assert_eq!(
                deny(&|list| list.retain(|(event, _)| event.kind() != "m.room.create")),
                "auth 3.4"
            );
        } else {
            let mut with_create = good.clone();
            with_create.push(create.clone());
            assert_eq!(
                check_auth_events(&event, &with_create),
                Ok(()),
                "the implied one may be given"
            );
            assert_eq!(deny(&|list| list.push((create.0.clone(), true))), "auth 2");
        }
        let mut elsewhere = Room::bare(room.rules.id(), json!({"elsewhere": true}));
        elsewhere.room_id = if room.rules.format.room_id_is_create_hash {
            elsewhere.room_id
        } else {
            RoomId::parse("!other:one.org").unwrap()
        };
        let start = elsewhere.after[&elsewhere.create].clone();
        let foreign = elsewhere.build(&start, &[], 9, ALICE, &levels(json!({})));
        assert_eq!(
            deny(&|list| {
                list.retain(|(event, _)| event.kind() != "m.room.power_levels");
                list.push((foreign.clone(), false));
            }),
            "auth 3.5"
        );
    });
}

#[test]
fn which_auth_events_are_selected() {
    let rules = rhizome_protocol::RoomRules::named("12").unwrap();
    let keys = |kind: &str, key: Option<&str>, content: Value| {
        let keys = auth_keys(rules, kind, &user(ALICE), key, &object(content));
        keys.into_iter()
            .map(|(kind, key)| format!("{} {key}", kind.trim_start_matches("m.room.")))
            .collect::<Vec<_>>()
    };
    let (levels, alice, bob) = (
        "power_levels ",
        format!("member {ALICE}"),
        format!("member {BOB}"),
    );
    assert!(keys("m.room.create", Some(""), json!({})).is_empty());
    assert_eq!(keys("m.room.message", None, json!({})), [levels, &alice]);
    assert_eq!(
        keys("m.room.member", Some(ALICE), json!({"membership": "leave"})),
        [levels, &alice]
    );
    assert_eq!(
        keys("m.room.member", Some(BOB), json!({"membership": "ban"})),
        [levels, &alice, &bob]
    );
    assert_eq!(
        keys("m.room.member", Some(ALICE), json!({"membership": "knock"})),
        [levels, &alice, "join_rules "]
    );
    assert_eq!(
        keys(
            "m.room.member",
            Some(ALICE),
            json!({"membership": "join", "join_authorised_via_users_server": BOB})
        ),
        [levels, &alice, &bob, "join_rules "]
    );
    assert_eq!(
        keys(
            "m.room.member",
            Some(BOB),
            json!({"membership": "invite", "third_party_invite": {"signed": {"token": "t"}}})
        ),
        [levels, &alice, &bob, "join_rules ", "third_party_invite t"]
    );
    let old = rhizome_protocol::RoomRules::named("11").unwrap();
    let keys = auth_keys(old, "x", &user(ALICE), None, &object(json!({})));
    assert_eq!(keys[0], ("m.room.create".to_owned(), String::new()));
}

#[test]
fn wrong_types_in_state_never_panic() {
    each(|mut room, last| {
        let odd = [
            json!({}),
            json!({"join_rule": 1}),
            json!({"membership": []}),
            json!({"users": 5, "events": [], "ban": "x"}),
        ];
        for content in odd {
            let key = StateKey::new("m.room.power_levels", "");
            let mut before = room.before(&[last.clone()]);
            let twisted = room.build(&before, &[last.clone()], 7, ALICE, &levels(content.clone()));
            room.events
                .insert(twisted.event_id().to_owned(), twisted.clone());
            before.insert(key, twisted.event_id().to_owned());
            let rules = room.build(
                &before,
                &[last.clone()],
                7,
                ALICE,
                &state("m.room.join_rules", "", content.clone()),
            );
            room.events
                .insert(rules.event_id().to_owned(), rules.clone());
            before.insert(
                StateKey::new("m.room.join_rules", ""),
                rules.event_id().to_owned(),
            );
            for what in [
                member(DORA, "join"),
                member(DORA, "invite"),
                member(CARL, "ban"),
                message(),
                levels(content.clone()),
            ] {
                for sender in [ALICE, CARL, DORA] {
                    let event = room.build(&before, &[last.clone()], 8, sender, &what);
                    let _ = authorize(&event, &room.view(&before));
                }
            }
        }
    });
}
