use rhizome_protocol::StateKey;
use serde_json::{Value, json};

use super::*;

const ADA: &str = "@ada:here";

fn rules(version: &str) -> &'static RoomRules {
    RoomRules::named(version).unwrap()
}

fn pdu(rules: &'static RoomRules, kind: &str, key: &str, content: &Value) -> Arc<Pdu> {
    let mut event = json!({
        "type": kind, "state_key": key, "sender": ADA, "content": content, "depth": 1,
        "origin_server_ts": 1, "prev_events": [], "auth_events": [],
        "hashes": { "sha256": "" }, "signatures": {},
    });
    if kind != "m.room.create" || !rules.format.room_id_is_create_hash {
        event["room_id"] = "!old:here".into();
    }
    let Value::Object(event) = event else {
        unreachable!()
    };
    Arc::new(Pdu::parse(rules, event).unwrap())
}

fn old(version: &str, state: &[(&str, &str, Value)]) -> OldRoom {
    let rules = rules(version);
    let mut old = OldRoom {
        rules,
        room_id: "!old:here".try_into().unwrap(),
        state: BTreeMap::new(),
        bans: Vec::new(),
        aliases: vec!["#ours:here".try_into().unwrap()],
    };
    for (kind, key, content) in state {
        let event = pdu(rules, kind, key, content);
        if *kind == "m.room.member" {
            old.bans.push(event);
        } else {
            old.state.insert(StateKey::new(*kind, *key), event);
        }
    }
    old
}

fn upgraded(old: &OldRoom, version: &str, creators: &[&str]) -> BTreeMap<(String, String), Value> {
    let request = UpgradeRoom {
        room_id: old.room_id.clone(),
        user: ADA.try_into().unwrap(),
        user_profile: Object::new(),
        version: version.try_into().unwrap(),
        additional_creators: creators
            .iter()
            .map(|user| (*user).try_into().unwrap())
            .collect(),
    };
    let plan = successor(rules(version), &request, old, None);
    let kinds: Vec<_> = plan.iter().map(|event| event.key.kind.clone()).collect();
    assert_eq!(kinds[..2], ["m.room.create", "m.room.member"]);
    let levels = kinds.iter().position(|kind| kind == LEVELS);
    assert!(levels.is_none_or(|at| at == kinds.len() - 1), "{kinds:?}");
    plan.into_iter()
        .map(|event| {
            (
                (event.key.kind, event.key.key),
                Value::Object(event.content),
            )
        })
        .collect()
}

fn of<'a>(plan: &'a BTreeMap<(String, String), Value>, kind: &str) -> Option<&'a Value> {
    plan.get(&(kind.to_owned(), String::new()))
}

#[test]
fn what_the_room_is_goes_along() {
    let old = old(
        "10",
        &[
            (
                "m.room.create",
                "",
                json!({ "creator": ADA, "type": "m.space", "m.federate": false, "x": 1 }),
            ),
            ("m.room.name", "", json!({ "name": "Den" })),
            ("m.room.topic", "", json!({})),
            (
                "m.space.child",
                "!a:here",
                json!({ "via": ["here"], "order": "a" }),
            ),
            ("m.space.child", "!b:here", json!({})),
            ("m.space.child", "nowhere", json!({ "via": ["here"] })),
            (
                "m.room.canonical_alias",
                "",
                json!({ "alias": "#ours:here", "alt_aliases": ["#theirs:there"] }),
            ),
            (
                "m.room.member",
                "@eve:there",
                json!({ "membership": "ban", "reason": "spam" }),
            ),
            ("m.room.member", "@bob:here", json!({ "membership": "ban" })),
        ],
    );
    let plan = upgraded(&old, "12", &["@bob:here", ADA, "@bob:here"]);
    assert_eq!(
        of(&plan, "m.room.create"),
        Some(&json!({
            "room_version": "12", "type": "m.space", "m.federate": false,
            "predecessor": { "room_id": "!old:here" }, "additional_creators": ["@bob:here"],
        }))
    );
    assert_eq!(of(&plan, "m.room.name"), Some(&json!({ "name": "Den" })));
    assert_eq!(of(&plan, "m.room.topic"), None);
    assert_eq!(of(&plan, LEVELS), None);
    assert_eq!(of(&plan, ALIAS), Some(&json!({ "alias": "#ours:here" })));
    let at = |kind: &str, key: &str| plan.get(&(kind.to_owned(), key.to_owned()));
    assert!(at(CHILD, "!a:here").is_some() && at(CHILD, "!b:here").is_none());
    assert_eq!(at(CHILD, "nowhere"), None);
    let ban = json!({ "membership": "ban", "reason": "spam" });
    assert_eq!(at("m.room.member", "@eve:there"), Some(&ban));
    assert_eq!(at("m.room.member", "@bob:here"), None);
    let left = after_the_end(&old);
    assert_eq!(left[0].key, StateKey::new(ALIAS, ""));
    assert_eq!(left[0].content["alt_aliases"], json!(["#theirs:there"]));
    assert!(!left[0].content.contains_key("alias"));

    let before = upgraded(&old, "11", &["@bob:here"]);
    assert_eq!(
        of(&before, "m.room.create")
            .unwrap()
            .get("additional_creators"),
        None
    );
}

#[test]
fn levels_are_what_the_new_version_takes() {
    let levels = json!({
        "users": { ADA: "100", "@bob:here": 50, "nobody": 1 }, "events_default": " 10 ",
        "ban": "x", "events": { "m.room.tombstone": 80, "y": null }, "org.x": 1.5,
    });
    let old_room = old("3", &[(LEVELS, "", levels)]);
    let plan = upgraded(&old_room, "11", &[]);
    assert_eq!(
        of(&plan, LEVELS),
        Some(&json!({
            "users": { ADA: 100, "@bob:here": 50 }, "events_default": 10,
            "events": { "m.room.tombstone": 80 }, "org.x": 1,
        }))
    );
    // Who ends a room of version 12 becomes a creator of the next.
    let plan = upgraded(&old_room, "12", &[]);
    let new = of(&plan, LEVELS).unwrap();
    assert_eq!(new["users"], json!({ "@bob:here": 50 }));
    assert_eq!(new["events"]["m.room.tombstone"], 150);

    let create = json!({ "additional_creators": ["@bob:here"] });
    let levels = json!({ "users": { "@cat:here": 50 }, "events": { "m.room.tombstone": 150 } });
    let old_room = old("12", &[("m.room.create", "", create), (LEVELS, "", levels)]);
    let plan = upgraded(&old_room, "11", &[]);
    let users = json!({ ADA: 150, "@bob:here": 150, "@cat:here": 50 });
    assert_eq!(of(&plan, LEVELS).unwrap()["users"], users);
}

#[test]
fn the_old_room_falls_silent() {
    let silent = |levels: Value| {
        let Value::Object(levels) = levels else {
            unreachable!()
        };
        levels::silenced(rules("10"), &levels).map(Value::Object)
    };
    assert_eq!(
        silent(json!({ "users_default": 0, "events_default": 0, "invite": 60 })),
        Some(json!({ "users_default": 0, "events_default": 50, "invite": 60 }))
    );
    assert_eq!(
        silent(json!({ "users_default": 60 })),
        Some(json!({ "users_default": 60, "events_default": 61, "invite": 61 }))
    );
    assert_eq!(silent(json!({ "events_default": 50, "invite": 50 })), None);
}

#[test]
fn join_rules_are_such_as_the_version_knows() {
    let rule = |version: &str, rule: &str| {
        let content = json!({ "join_rule": rule, "allow": [{ "type": "m.room_membership" }] });
        let content = join_rules(rules(version), content);
        let allowed = content.get("allow").is_some();
        (content["join_rule"].as_str().unwrap().to_owned(), allowed)
    };
    assert_eq!(
        rule("11", "knock_restricted"),
        ("knock_restricted".into(), true)
    );
    assert_eq!(rule("9", "knock_restricted"), ("restricted".into(), true));
    assert_eq!(rule("7", "knock_restricted"), ("knock".into(), false));
    assert_eq!(rule("6", "knock"), ("invite".into(), false));
    assert_eq!(rule("7", "restricted"), ("invite".into(), false));
    assert_eq!(rule("6", "public"), ("public".into(), true));
}
