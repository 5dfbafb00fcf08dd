use std::sync::Arc;

use rhizome_protocol::RoomRules;
use serde_json::{Value, json};

use super::*;

const USER: &str = "m.policy.rule.user";
const SERVER: &str = "m.policy.rule.server";
const ROOM: &str = "m.policy.rule.room";

fn event(kind: &str, key: &str, content: &Value) -> Arc<Pdu> {
    let event = json!({
        "type": kind, "state_key": key, "sender": "@mod:list", "content": content, "depth": 1,
        "origin_server_ts": 1, "prev_events": [], "auth_events": [], "room_id": "!list:list",
        "hashes": { "sha256": "" }, "signatures": {},
    });
    let Value::Object(event) = event else {
        unreachable!()
    };
    Arc::new(Pdu::parse(RoomRules::named("10").unwrap(), event).unwrap())
}

fn ban(entity: &str) -> Value {
    json!({ "entity": entity, "recommendation": "m.ban", "reason": "spam" })
}

fn read(state: &[(&str, &str, Value)]) -> Policies {
    let events: Vec<_> = state
        .iter()
        .map(|(kind, key, content)| event(kind, key, content))
        .collect();
    Policies::read(events.iter().map(|event| &**event))
}

/// Each about something else.
fn list(rules: &[(&str, &str)]) -> Policies {
    let state: Vec<_> = rules
        .iter()
        .map(|(kind, entity)| (*kind, *entity, ban(entity)))
        .collect();
    read(&state)
}

fn entities(policies: &Policies) -> Vec<&str> {
    let rules = policies.rules.iter();
    rules.map(|rule| &*rule.entity).collect()
}

fn about<'a>(policies: &'a Policies, entity: &str) -> Vec<&'a str> {
    let found = policies.about(&entity.parse().unwrap());
    found.into_iter().map(|rule| &*rule.entity).collect()
}

#[test]
fn rules_say_what_and_why() {
    let policies = read(&[
        (SERVER, "rule:1", ban("*.evil.org")),
        (USER, "rule:1", ban("@bad:evil.org")),
        ("m.room.topic", "", ban("@bad:evil.org")),
        (
            USER,
            "watch",
            json!({ "entity": "@odd:x", "recommendation": "org.example.watch" }),
        ),
    ]);
    assert_eq!(
        entities(&policies),
        ["@bad:evil.org", "@odd:x", "*.evil.org"]
    );
    assert_eq!((policies.malformed, policies.is_cut), (0, false));
    let [bad, odd, server] = &policies.rules[..] else {
        panic!("{policies:?}")
    };
    assert_eq!(bad.recommendation, Recommendation::Ban);
    assert_eq!(bad.reason.as_deref(), Some("spam"));
    assert_eq!(bad.sender, "@mod:list");
    assert_eq!(odd.recommendation.as_str(), "org.example.watch");
    assert_eq!(odd.reason, None);
    assert_eq!(server.subject.as_str(), "server");
}

#[test]
fn whom_rules_mean() {
    let policies = list(&[
        (USER, "@bad:evil.org"),
        (USER, "@spam?*:*"),
        (SERVER, "Evil.org"),
        (SERVER, "*.evil.org"),
        (SERVER, "1.2.3.4:8448"),
        (ROOM, "#*:evil.org"),
        (ROOM, "!Pit:evil.org"),
    ]);
    let cases: [(&str, &[&str]); 14] = [
        ("@bad:good.org", &[]),
        ("@bad:evil.org", &["@bad:evil.org", "Evil.org"]),
        ("@Bad:EVIL.org:8448", &["Evil.org"]),
        ("@SPAMMER:good.org", &["@spam?*:*"]),
        ("@spam:good.org", &[]),
        ("@a:b.evil.org", &["*.evil.org"]),
        ("evil.org:1", &["Evil.org"]),
        ("a.evil.org", &["*.evil.org"]),
        ("notevil.org", &[]),
        ("1.2.3.4:8448", &["1.2.3.4:8448"]),
        ("1.2.3.4", &[]),
        ("#any:evil.org", &["#*:evil.org"]),
        ("!Pit:evil.org", &["!Pit:evil.org"]),
        ("!pit:evil.org", &[]),
    ];
    for (entity, rules) in cases {
        assert_eq!(about(&policies, entity), rules, "{entity}");
    }
    for nothing in ["", "@", "#x", "a b"] {
        assert!(nothing.parse::<Entity>().is_err(), "{nothing:?}");
    }
}

#[test]
fn what_is_malformed_or_taken_back_says_nothing() {
    let malformed = [
        json!({ "entity": "@a:b" }),
        json!({ "recommendation": "m.ban" }),
        json!({ "entity": "", "recommendation": "m.ban" }),
        json!({ "entity": 1, "recommendation": "m.ban" }),
        json!({ "entity": "@a:b", "recommendation": "" }),
        json!({ "entity": "@a:b", "recommendation": ["m.ban"] }),
        json!({ "entity": "@a:b", "recommendation": "x".repeat(256) }),
        ban(&"a".repeat(256)),
        ban(&format!("{}*", "a".repeat(128))),
        ban(&"*".repeat(1_000)),
    ];
    for content in &malformed {
        let policies = read(&[(USER, "a", content.clone())]);
        assert_eq!((entities(&policies).len(), policies.malformed), (0, 1));
    }
    let policies = read(&[(USER, "a", json!({})), (ROOM, "b", json!({}))]);
    assert_eq!(policies, Policies::default());
    // What is said beside is no matter of the rule.
    let odd = json!({ "entity": "*", "recommendation": "m.ban", "reason": 7 });
    let policies = read(&[(SERVER, "a", odd)]);
    assert_eq!(about(&policies, "any.org"), ["*"]);
    assert_eq!(policies.rules[0].reason, None);
}

#[test]
fn older_types_count_where_no_newer_one_says_otherwise() {
    let old = json!({ "entity": "@old:b", "recommendation": "org.matrix.mjolnir.ban" });
    let mjolnir = "org.matrix.mjolnir.rule.user";
    let policies = read(&[(mjolnir, "a", old.clone())]);
    assert_eq!(policies.rules[0].recommendation, Recommendation::Ban);
    let of_each = |newer: &[(&str, Value)]| {
        let mut state = vec![(mjolnir, "a", old.clone())];
        state.extend(newer.iter().map(|(kind, rule)| (*kind, "a", rule.clone())));
        let forth = entities(&read(&state)).join(" ");
        state.reverse();
        assert_eq!(entities(&read(&state)).join(" "), forth, "in any order");
        forth
    };
    assert_eq!(of_each(&[("m.room.rule.user", ban("@new:b"))]), "@new:b");
    let newest = [("m.room.rule.user", ban("@new:b")), (USER, json!({}))];
    assert_eq!(of_each(&newest), "");
    // The same key of another kind is another rule.
    assert_eq!(of_each(&[("m.room.rule.server", ban("b"))]), "@old:b b");
}

#[test]
fn reasons_are_cut() {
    let mut rule = ban("@a:b");
    rule["reason"] = "ü".repeat(MAX_REASON).into();
    let policies = read(&[(USER, "a", rule)]);
    let reason = policies.rules[0].reason.as_deref();
    assert_eq!(reason, Some(&*"ü".repeat(MAX_REASON / 2)));
}
