//! The authorization rules as stories: who tries what, and which rule forbids it.

use rhizome_protocol::{
    StateKey,
    auth::{auth_keys, authorize, check_auth_events},
    draft::{Draft, Place, build},
    sign::{KeyPair, sign_json},
};
use ruma::{OwnedEventId, RoomId, server_name};
use serde_json::{Value, json};

use crate::room::{
    ALICE, BOB, CARL, DORA, Room, VERSIONS, What, levels, member, message, object, state, user,
};

/// A lively room of each version.
fn each(story: impl Fn(Room, OwnedEventId)) {
    for version in VERSIONS {
        let (room, last) = Room::lively(version);
        story(room, last);
    }
}

fn rule(room: &mut Room, last: &OwnedEventId, join_rule: &str) -> OwnedEventId {
    room.send(
        &[last.clone()],
        ALICE,
        &state("m.room.join_rules", "", json!({ "join_rule": join_rule })),
    )
}

/// The levels of a lively room, changed.
fn changed(room: &Room, change: impl FnOnce(&mut Value)) -> What {
    let mut users = json!({ BOB: 50 });
    if !room.rules.auth.privileged_creators {
        users[ALICE] = json!(100);
    }
    let mut content = json!({ "users": users });
    change(&mut content);
    levels(content)
}

/// The rule against a knock where nobody may knock: older versions don't know the membership.
fn no_knock(room: &Room) -> &'static str {
    if room.rules.auth.knock {
        "auth 5.7.1"
    } else {
        "auth 5.8"
    }
}

#[test]
fn strangers_can_only_join() {
    each(|mut room, last| {
        assert_eq!(room.denied(&last, DORA, &message()), "auth 6");
        assert_eq!(
            room.denied(&last, DORA, &member(CARL, "leave")),
            "auth 5.5.2"
        );
        assert_eq!(room.denied(&last, DORA, &member(CARL, "ban")), "auth 5.6.1");
        assert_eq!(
            room.denied(&last, DORA, &member("@new:x.org", "invite")),
            "auth 5.4.2"
        );
        assert_eq!(
            room.denied(&last, DORA, &member(DORA, "leave")),
            "auth 5.5.1"
        );
        let no_knock = no_knock(&room);
        assert_eq!(room.denied(&last, DORA, &member(DORA, "knock")), no_knock);
        assert_eq!(room.denied(&last, DORA, &member(DORA, "dance")), "auth 5.8");
        assert_eq!(
            room.denied(&last, ALICE, &member(DORA, "join")),
            "auth 5.3.2"
        );
        let joined = room.send(&[last], DORA, &member(DORA, "join"));
        room.send(&[joined], DORA, &message());
    });
}

#[test]
fn the_banned_stay_out_until_unbanned() {
    each(|mut room, last| {
        let banned = room.send(&[last], BOB, &member(CARL, "ban"));
        assert_eq!(
            room.denied(&banned, CARL, &member(CARL, "join")),
            "auth 5.3.3"
        );
        assert_eq!(
            room.denied(&banned, CARL, &member(CARL, "leave")),
            "auth 5.5.1"
        );
        let no_knock = no_knock(&room);
        assert_eq!(room.denied(&banned, CARL, &member(CARL, "knock")), no_knock);
        assert_eq!(
            room.denied(&banned, ALICE, &member(CARL, "invite")),
            "auth 5.4.3"
        );
        assert_eq!(room.denied(&banned, CARL, &message()), "auth 6");
        let dora = room.send(&[banned], DORA, &member(DORA, "join"));
        assert_eq!(
            room.denied(&dora, DORA, &member(CARL, "leave")),
            "auth 5.5.3"
        );
        let unbanned = room.send(&[dora], BOB, &member(CARL, "leave"));
        room.send(&[unbanned], CARL, &member(CARL, "join"));
    });
}

#[test]
fn nobody_kicks_or_bans_upwards_or_sideways() {
    each(|mut room, last| {
        for (who, target) in [(BOB, ALICE), (BOB, BOB), (CARL, BOB), (CARL, ALICE)] {
            assert_eq!(
                room.denied(&last, who, &member(target, "ban")),
                "auth 5.6.3",
                "{who} {target}"
            );
            if who != target {
                assert_eq!(
                    room.denied(&last, who, &member(target, "leave")),
                    "auth 5.5.5"
                );
            }
        }
        room.send(&[last.clone()], ALICE, &member(BOB, "ban"));
        room.send(&[last], BOB, &member(CARL, "leave"));
    });
}

#[test]
fn invites_and_closed_rooms() {
    each(|mut room, last| {
        let closed = rule(&mut room, &last, "invite");
        assert_eq!(
            room.denied(&closed, DORA, &member(DORA, "join")),
            "auth 5.3.4"
        );
        assert_eq!(
            room.denied(&closed, ALICE, &member(BOB, "invite")),
            "auth 5.4.3"
        );
        let invited = room.send(&[closed], CARL, &member(DORA, "invite"));
        room.send(&[invited.clone()], DORA, &member(DORA, "leave"));
        let joined = room.send(&[invited], DORA, &member(DORA, "join"));
        let guarded = changed(&room, |content| content["invite"] = json!(50));
        let guarded = room.send(&[joined], ALICE, &guarded);
        assert_eq!(
            room.denied(&guarded, CARL, &member("@new:x.org", "invite")),
            "auth 5.4.5"
        );
        assert_eq!(
            room.denied(
                &guarded,
                CARL,
                &state("m.room.third_party_invite", "t", json!({}))
            ),
            "auth 7.1"
        );
        room.send(&[guarded.clone()], BOB, &member("@new:x.org", "invite"));
        let private = rule(&mut room, &guarded, "private");
        assert_eq!(
            room.denied(&private, DORA, &member(BOB, "join")),
            "auth 5.3.2"
        );
        let left = room.send(&[private], DORA, &member(DORA, "leave"));
        assert_eq!(
            room.denied(&left, DORA, &member(DORA, "join")),
            "auth 5.3.7"
        );
    });
}

#[test]
fn knocking() {
    each(|mut room, last| {
        for join_rule in ["knock", "knock_restricted"] {
            let open = rule(&mut room, &last, join_rule);
            let known = match join_rule {
                "knock" => room.rules.auth.knock,
                _ => room.rules.auth.knock_restricted,
            };
            if !known {
                // A rule that the version doesn't have lets nobody in, invited or not.
                let no_knock = no_knock(&room);
                assert_eq!(room.denied(&open, DORA, &member(DORA, "knock")), no_knock);
                let invited = room.send(&[open], CARL, &member(DORA, "invite"));
                let joins = member(DORA, "join");
                assert_eq!(room.denied(&invited, DORA, &joins), "auth 5.3.7");
                continue;
            }
            let knocked = room.send(&[open.clone()], DORA, &member(DORA, "knock"));
            assert_eq!(
                room.denied(&open, CARL, &member(DORA, "knock")),
                "auth 5.7.2"
            );
            assert_eq!(
                room.denied(&open, CARL, &member(CARL, "knock")),
                "auth 5.7.4"
            );
            let denied = room.denied(&knocked, DORA, &member(DORA, "join"));
            assert!(["auth 5.3.4", "auth 5.3.5"].contains(&denied));
            room.send(&[knocked.clone()], DORA, &member(DORA, "leave"));
            room.send(&[knocked.clone()], BOB, &member(DORA, "leave"));
            let invited = room.send(&[knocked], CARL, &member(DORA, "invite"));
            assert_eq!(
                room.denied(&invited, DORA, &member(DORA, "knock")),
                "auth 5.7.4"
            );
            room.send(&[invited], DORA, &member(DORA, "join"));
        }
    });
}

#[test]
fn restricted_rooms() {
    each(|mut room, last| {
        let via = |user: &str| {
            let mut join = member(DORA, "join");
            join.content["join_authorised_via_users_server"] = json!(user);
            join
        };
        for join_rule in ["restricted", "knock_restricted"] {
            let open = rule(&mut room, &last, join_rule);
            let known = match join_rule {
                "restricted" => room.rules.auth.restricted,
                _ => room.rules.auth.knock_restricted,
            };
            if !known {
                assert_eq!(room.denied(&open, DORA, &via(ALICE)), "auth 5.3.7");
                continue;
            }
            let guarded = changed(&room, |content| content["invite"] = json!(50));
            let guarded = room.send(&[open], ALICE, &guarded);
            for (user, allowed) in [
                (ALICE, true),
                (BOB, true),
                (CARL, false),
                (DORA, false),
                ("@x:y", false),
                ("nobody", false),
            ] {
                match room.try_send(&[guarded.clone()], DORA, &via(user)) {
                    Ok(joined) => {
                        assert!(allowed, "{user}");
                        // Once in, a new name needs no leave.
                        room.send(&[joined], DORA, &member(DORA, "join"));
                    }
                    Err(rejection) => assert!(
                        !allowed && rejection.rule == "auth 5.3.5",
                        "{user}: {rejection}"
                    ),
                }
            }
            assert_eq!(
                room.denied(&guarded, DORA, &member(DORA, "join")),
                "auth 5.3.5"
            );
        }
    });
}

#[test]
fn third_party_invites() {
    let key = KeyPair::from_seed("0", &[5; 32]).unwrap();
    let invite = |mxid: &str, token: &str, key: &KeyPair| {
        let mut signed = object(json!({"mxid": mxid, "token": token}));
        sign_json(&mut signed, server_name!("id.org"), key).unwrap();
        let mut invite = member(DORA, "invite");
        invite.content["third_party_invite"] = json!({"display_name": "d", "signed": signed});
        invite
    };
    each(|mut room, last| {
        for keys in [
            json!({"public_key": key.public_base64()}),
            json!({"public_keys": [{"x": 1}, {"public_key": key.public_base64()}]}),
        ] {
            let known = room.send(
                &[last.clone()],
                CARL,
                &state("m.room.third_party_invite", "tok", keys),
            );
            let closed = rule(&mut room, &known, "invite");
            let invited = room.send(&[closed.clone()], CARL, &invite(DORA, "tok", &key));
            room.send(&[invited], DORA, &member(DORA, "join"));

            assert_eq!(
                room.denied(&closed, BOB, &invite(DORA, "tok", &key)),
                "auth 5.4.1.6"
            );
            assert_eq!(
                room.denied(&closed, CARL, &invite(DORA, "other", &key)),
                "auth 5.4.1.5"
            );
            assert_eq!(
                room.denied(&closed, CARL, &invite(BOB, "tok", &key)),
                "auth 5.4.1.4"
            );
            let forger = KeyPair::from_seed("0", &[6; 32]).unwrap();
            assert_eq!(
                room.denied(&closed, CARL, &invite(DORA, "tok", &forger)),
                "auth 5.4.1.8"
            );
            for (odd, rule) in [
                (json!({}), "auth 5.4.1.2"),
                (json!(1), "auth 5.4.1.2"),
                (json!({"signed": {"token": 1}}), "auth 5.4.1.3"),
            ] {
                let mut bad = member(DORA, "invite");
                bad.content["third_party_invite"] = odd;
                assert_eq!(room.denied(&closed, CARL, &bad), rule);
            }
            let banned = room.send(&[closed], BOB, &member(DORA, "ban"));
            assert_eq!(
                room.denied(&banned, CARL, &invite(DORA, "tok", &key)),
                "auth 5.4.1.1"
            );
        }
    });
}

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

/// What a string or a fraction says counts like the integer.
#[test]
fn old_levels_count_whatever_their_form() {
    for version in &VERSIONS[..9] {
        let (mut room, last) = Room::lively(version);
        let written = levels(json!({
            "users": {ALICE: "0100", BOB: " +50", CARL: "-1"},
            "state_default": "50", "ban": "51", "events": {"m.room.topic": "0"},
        }));
        let last = room.send(&[last], ALICE, &written);
        let topic = state("m.room.topic", "", json!({"topic": "x"}));
        assert_eq!(room.denied(&last, CARL, &topic), "auth 8");
        assert_eq!(room.denied(&last, BOB, &member(CARL, "ban")), "auth 5.6.3");
        let rewritten = levels(json!({
            "users": {ALICE: 100, BOB: 50, CARL: -1},
            "state_default": 50, "ban": 51, "events": {"m.room.topic": 0},
        }));
        // The same in other words is no change, so Bob may say it.
        let powered = state("m.room.name", "", json!({"name": "x"}));
        let named = room.send(&[last], BOB, &powered);
        room.send(&[named], BOB, &rewritten);
    }
}

/// Rule 4 of versions 1 to 5: aliases are a server's own matter, and need no power. Later they are state
/// like any other.
#[test]
fn aliases() {
    each(|mut room, last| {
        let own = state(
            "m.room.aliases",
            "four.org",
            json!({"aliases": ["#x:four.org"]}),
        );
        let others = state("m.room.aliases", "one.org", json!({"aliases": []}));
        let keyless = What {
            key: None,
            ..own.clone()
        };
        if room.rules.auth.special_aliases {
            // Not even membership.
            room.send(&[last.clone()], DORA, &own);
            assert_eq!(room.denied(&last, DORA, &others), "auth 4 of v1");
            assert_eq!(room.denied(&last, DORA, &keyless), "auth 4 of v1");
        } else {
            assert_eq!(room.denied(&last, DORA, &own), "auth 6");
            assert_eq!(room.denied(&last, CARL, &own), "auth 8");
            room.send(&[last.clone()], BOB, &others);
            room.send(&[last], CARL, &keyless);
        }
    });
}

/// Rule 11 of versions 1 and 2: whose event it is, the domains of the ids say. Since version 3 anybody may
/// send a redaction; whether it is applied is another question.
#[test]
fn redactions() {
    each(|mut room, last| {
        let redaction = |target: &str| What {
            kind: "m.room.redaction",
            redacts: Some(target.to_owned()),
            ..message()
        };
        let explicit = room.rules.auth.special_redaction;
        for (target, own) in [("$x:three.org", true), ("$x:two.org", false), ("$x", false)] {
            if explicit && !own {
                assert_eq!(
                    room.denied(&last, CARL, &redaction(target)),
                    "auth 11 of v1"
                );
            } else {
                room.send(&[last.clone()], CARL, &redaction(target));
            }
            room.send(&[last.clone()], BOB, &redaction(target));
        }
        let strict = changed(&room, |content| {
            content["redact"] = json!(60);
            content["events"] = json!({"m.room.redaction": 10});
        });
        let strict = room.send(&[last], ALICE, &strict);
        assert_eq!(
            room.denied(&strict, CARL, &redaction("$x:three.org")),
            "auth 8"
        );
        room.send(&[strict.clone()], BOB, &redaction("$x:two.org"));
        if explicit {
            assert_eq!(
                room.denied(&strict, BOB, &redaction("$x:one.org")),
                "auth 11 of v1"
            );
        }
    });
}

#[test]
fn creators_of_v12_are_above_all_levels() {
    let mut room = Room::bare("12", json!({"additional_creators": [BOB]}));
    let last = room.chain(
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

#[test]
fn without_levels_the_creator_of_old_versions_has_100() {
    for version in VERSIONS {
        let mut room = Room::bare(version, json!({}));
        let last = room.chain(
            &[room.create.clone()],
            &[
                (ALICE, member(ALICE, "join")),
                (
                    ALICE,
                    state("m.room.join_rules", "", json!({"join_rule": "public"})),
                ),
                (BOB, member(BOB, "join")),
            ],
        );
        assert_eq!(
            room.denied(&last, BOB, &state("m.room.topic", "", json!({}))),
            "auth 8"
        );
        assert_eq!(
            room.denied(&last, BOB, &member(ALICE, "leave")),
            "auth 5.5.5"
        );
        room.send(&[last], ALICE, &member(BOB, "ban"));
    }
    // Up to v10 `content.creator` is the creator, whoever sent the event.
    for version in &VERSIONS[..10] {
        let mut room = Room::bare(version, json!({"creator": "@eve:one.org"}));
        room.send(
            &[room.create.clone()],
            "@eve:one.org",
            &member("@eve:one.org", "join"),
        );
        assert_eq!(
            room.denied(&room.create.clone(), ALICE, &member(ALICE, "join")),
            "auth 5.3.4"
        );
    }
}

#[test]
fn only_the_creator_joins_right_after_the_create_event() {
    for version in VERSIONS {
        let mut room = Room::bare(version, json!({}));
        let create = room.create.clone();
        assert_eq!(
            room.denied(&create, BOB, &member(BOB, "join")),
            "auth 5.3.4"
        );
        let joined = room.send(&[create], ALICE, &member(ALICE, "join"));
        let left = room.send(&[joined], ALICE, &member(ALICE, "leave"));
        assert_eq!(
            room.denied(&left, ALICE, &member(ALICE, "join")),
            "auth 5.3.4"
        );
    }
}

#[test]
fn rooms_that_do_not_federate() {
    for version in VERSIONS {
        let mut room = Room::bare(version, json!({"m.federate": false}));
        let last = room.chain(
            &[room.create.clone()],
            &[
                (ALICE, member(ALICE, "join")),
                (
                    ALICE,
                    state("m.room.join_rules", "", json!({"join_rule": "public"})),
                ),
            ],
        );
        assert_eq!(room.denied(&last, BOB, &member(BOB, "join")), "auth 4");
        room.send(&[last], "@ann:one.org", &member("@ann:one.org", "join"));
    }
}

fn create(
    version: &str,
    sender: &str,
    room_id: Option<&str>,
    prev: &[OwnedEventId],
    content: Value,
) -> Result<(), &'static str> {
    let rules = rhizome_protocol::RoomRules::named(version).unwrap();
    let draft = Draft {
        room_id: room_id.map(|id| RoomId::parse(id).unwrap()),
        sender: user(sender),
        kind: "m.room.create".into(),
        state_key: Some(String::new()),
        content: object(content),
        redacts: None,
    };
    let place = Place {
        prev_events: prev.to_vec(),
        depth: 1,
        origin_server_ts: 1,
        ..Place::default()
    };
    let key = KeyPair::from_seed("a", &[1; 32]).unwrap();
    let event = build(rules, &draft, &place, server_name!("one.org"), &key)
        .map_err(|rejection| rejection.rule)?;
    let nothing: &[std::sync::Arc<rhizome_protocol::Pdu>] = &[];
    authorize(&event, nothing).map_err(|rejection| rejection.rule)
}

#[test]
fn forged_create_events() {
    let room = Some("!r:one.org");
    for version in &VERSIONS[..11] {
        assert_eq!(
            create(version, ALICE, room, &[], json!({"room_version": version})),
            Ok(())
        );
        assert_eq!(create(version, ALICE, room, &[], json!({})), Ok(()));
        assert_eq!(
            create(version, BOB, room, &[], json!({})),
            Err("auth 1.2"),
            "another server's room id"
        );
        assert_eq!(
            create(version, ALICE, Some("!r"), &[], json!({})),
            Err("auth 1.2")
        );
        assert_eq!(
            create(version, ALICE, None, &[], json!({})),
            Err("PDU format")
        );
    }
    assert_eq!(
        create("12", ALICE, None, &[], json!({"room_version": "12"})),
        Ok(())
    );
    assert_eq!(create("12", ALICE, room, &[], json!({})), Err("auth 1.2"));
    for creators in [
        json!("@a:b"),
        json!(["a"]),
        json!([1]),
        json!(["@a:b", "@c"]),
        json!({}),
        json!(null),
    ] {
        assert_eq!(
            create(
                "12",
                ALICE,
                None,
                &[],
                json!({"additional_creators": creators})
            ),
            Err("auth 1.4")
        );
        assert_eq!(
            create(
                "11",
                ALICE,
                room,
                &[],
                json!({"additional_creators": creators})
            ),
            Ok(())
        );
    }
    for version in VERSIONS {
        let room = if version == "12" { None } else { room };
        let prev = [OwnedEventId::try_from("$before").unwrap()];
        assert_eq!(
            create(version, ALICE, room, &prev, json!({})),
            Err("auth 1.1")
        );
        for odd in [json!("99"), json!(11), json!(null)] {
            assert_eq!(
                create(version, ALICE, room, &[], json!({"room_version": odd})),
                Err("auth 1.3")
            );
        }
    }
}

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
