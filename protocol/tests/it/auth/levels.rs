//! Rules 7 to 10: what power levels allow, and who may change them.

use serde_json::{Value, json};

use super::{changed, each};
use crate::room::{ALICE, BOB, CARL, Room, levels, member, message, object, state};

#[test]
fn levels_for_sending() {
    each(|mut room, last| {
        let topic = state("m.room.topic", "", json!({"topic": "x"}));
        assert_eq!(room.denied(&last, CARL, &topic), "auth 8");
        room.send(&[last.clone()], BOB, &topic);
        let strict = changed(&room, |content| {
            content["events"] = json!({"m.room.topic": 60, "m.room.message": 10});
            content["events_default"] = json!(5);
            content["state_default"] = json!(0);
        });
        let strict = room.send(&[last], ALICE, &strict);
        assert_eq!(room.denied(&strict, BOB, &topic), "auth 8");
        assert_eq!(room.denied(&strict, CARL, &message()), "auth 8");
        room.send(&[strict.clone()], BOB, &message());
        room.send(
            &[strict.clone()],
            CARL,
            &state("org.example.any", "", json!({})),
        );
        room.send(
            &[strict.clone()],
            CARL,
            &state("org.example.own", CARL, json!({})),
        );
        assert_eq!(
            room.denied(&strict, BOB, &state("org.example.own", CARL, json!({}))),
            "auth 9"
        );
    });
}

#[test]
fn nobody_raises_above_the_own_level_or_touches_equals() {
    each(|mut room, last| {
        let limits_notifications = room.rules.auth.limit_notifications;
        let mut tries = |who: &str, change: &dyn Fn(&mut Value)| {
            let what = changed(&room, change);
            let prev = [last.clone()];
            room.try_send(&prev, who, &what)
                .map_err(|rejection| rejection.rule)
        };
        let users = |user: &'static str, level: i64| {
            move |content: &mut Value| content["users"][user] = json!(level)
        };
        assert!(tries(BOB, &users(CARL, 50)).is_ok());
        assert_eq!(tries(BOB, &users(CARL, 51)), Err("auth 10.10"));
        assert_eq!(tries(BOB, &users(BOB, 51)), Err("auth 10.10"));
        assert!(tries(BOB, &users(BOB, 10)).is_ok(), "stepping down");
        assert!(
            tries(BOB, &|content| drop(
                content["users"].as_object_mut().unwrap().remove(BOB)
            ))
            .is_ok()
        );
        assert_eq!(
            tries(BOB, &|content| content["ban"] = json!(51)),
            Err("auth 10.6")
        );
        assert!(tries(BOB, &|content| content["ban"] = json!(50)).is_ok());
        assert_eq!(
            tries(BOB, &|content| content["events"] = json!({"x": 51})),
            Err("auth 10.8")
        );
        let loud = tries(BOB, &|content| {
            content["notifications"] = json!({"room": 51});
        });
        if limits_notifications {
            assert_eq!(loud, Err("auth 10.8"));
        } else {
            assert!(loud.is_ok());
        }
        assert_eq!(tries(CARL, &|_| ()), Err("auth 8"));

        // Bob can't take back what Alice set above him, nor lower his equals.
        let high = changed(&room, |content| {
            content["kick"] = json!(60);
            content["events"] = json!({"x": 60});
            content["users"][CARL] = json!(50);
        });
        let high = room.send(&[last.clone()], ALICE, &high);
        let deny = |room: &mut Room, change: &dyn Fn(&mut Value)| {
            let what = changed(room, |content| {
                content["kick"] = json!(60);
                content["events"] = json!({"x": 60});
                content["users"][CARL] = json!(50);
                change(content);
            });
            room.denied(&high, BOB, &what)
        };
        assert_eq!(
            deny(&mut room, &|content| content["kick"] = json!(50)),
            "auth 10.6"
        );
        assert_eq!(
            deny(&mut room, &|content| content["events"] = json!({})),
            "auth 10.7"
        );
        assert_eq!(
            deny(&mut room, &|content| content["events"]["x"] = json!(50)),
            "auth 10.7"
        );
        assert_eq!(
            deny(&mut room, &|content| content["users"][CARL] = json!(0)),
            "auth 10.9"
        );
        assert_eq!(
            deny(&mut room, &|content| drop(
                content["users"].as_object_mut().unwrap().remove(CARL)
            )),
            "auth 10.9"
        );
    });
}

#[test]
fn levels_are_integers() {
    each(|mut room, last| {
        // Strings of digits pass before v10, null is as good as nothing there.
        for (field, value, rule, old) in [
            ("ban", json!("50"), "auth 10.1", Ok(())),
            ("ban", json!("fifty"), "auth 10.1", Err("auth 10.1")),
            ("users_default", json!(null), "auth 10.1", Ok(())),
            ("invite", json!([]), "auth 10.1", Err("auth 10.1")),
            ("events", json!([]), "auth 10.2", Err("auth 10.2")),
            ("events", json!({"x": "1"}), "auth 10.2", Ok(())),
            ("events", json!({"x": {}}), "auth 10.2", Err("auth 10.2")),
            ("users", json!([]), "auth 10.3", Err("auth 10.3")),
            ("users", json!({CARL: " +1 "}), "auth 10.3", Ok(())),
            ("users", json!({CARL: null}), "auth 10.3", Err("auth 10.3")),
            ("users", json!({"carl": 1}), "auth 10.3", Err("auth 10.3")),
            ("users", json!({"@carl": 1}), "auth 10.3", Err("auth 10.3")),
        ] {
            let mut what = changed(&room, |_| ());
            if field == "users" && value.is_object() {
                what.content["users"]
                    .as_object_mut()
                    .unwrap()
                    .extend(object(value));
            } else {
                what.content[field] = value;
            }
            let result = room.try_send(&[last.clone()], ALICE, &what);
            let expected = if room.rules.auth.integer_levels {
                Err(rule)
            } else {
                old
            };
            let result = result.map(drop).map_err(|rejection| rejection.rule);
            assert_eq!(result, expected, "{field} in {}", room.rules.id());
        }
        let loud = changed(&room, |content| {
            content["notifications"] = json!({"room": {}});
        });
        if room.rules.auth.limit_notifications {
            assert_eq!(room.denied(&last, ALICE, &loud), "auth 10.2");
        } else {
            room.send(&[last], ALICE, &loud);
        }
    });
}

#[test]
fn creators_of_v12_are_above_all_levels() {
    let mut room = Room::bare("12", json!({"additional_creators": [BOB]}));
    let last = room.send_all(
        &[room.create.clone()],
        &[
            (ALICE, member(ALICE, "join")),
            (
                ALICE,
                levels(json!({"users": {CARL: 100}, "events": {"m.room.tombstone": 150}})),
            ),
            (
                ALICE,
                state("m.room.join_rules", "", json!({"join_rule": "public"})),
            ),
            (BOB, member(BOB, "join")),
            (CARL, member(CARL, "join")),
        ],
    );
    let tombstone = state("m.room.tombstone", "", json!({}));
    assert_eq!(room.denied(&last, CARL, &tombstone), "auth 8");
    for creator in [ALICE, BOB] {
        room.send(&[last.clone()], creator, &tombstone);
        let other = if creator == ALICE { BOB } else { ALICE };
        // Nobody is above a creator, not even another one.
        for who in [CARL, other] {
            assert_eq!(
                room.denied(&last, who, &member(creator, "ban")),
                "auth 5.6.3"
            );
            assert_eq!(
                room.denied(&last, who, &member(creator, "leave")),
                "auth 5.5.5"
            );
        }
        for level in [0, 100, i64::from(i32::MAX)] {
            assert_eq!(
                room.denied(&last, creator, &levels(json!({"users": {creator: level}}))),
                "auth 10.4"
            );
        }
        room.send(
            &[last.clone()],
            creator,
            &levels(json!({"users": {CARL: (1_i64 << 53) - 1}})),
        );
    }
    assert_eq!(
        room.denied(&last, CARL, &levels(json!({"users": {ALICE: 0}}))),
        "auth 10.4"
    );
}
