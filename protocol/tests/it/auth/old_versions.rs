//! What only older versions have: aliases, redactions by domain, levels of any form, creators without levels.

use serde_json::json;

use super::{changed, each};
use crate::room::{ALICE, BOB, CARL, DORA, Room, VERSIONS, What, levels, member, message, state};

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
fn without_levels_the_creator_of_old_versions_has_100() {
    for version in VERSIONS {
        let mut room = Room::bare(version, json!({}));
        let last = room.send_all(
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
