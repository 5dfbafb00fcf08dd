use proptest::{option, prelude::*, sample::select};
use ruma::owned_event_id;
use serde_json::json;

use super::*;
use crate::{canonical::to_canonical_with, json::strategy};

/// As events from the database are read.
fn read(rules: &'static RoomRules, json: &str) -> Result<Pdu, Rejection> {
    Pdu::from_stored(rules, owned_event_id!("$id"), json.into())
}

/// As they were read when that was always done in full.
fn read_in_full(rules: &'static RoomRules, json: &str) -> Result<Pdu, Rejection> {
    let object: Object = serde_json::from_str(json)
        .map_err(|error| format_error(format!("the stored text of $id is damaged: {error}")))?;
    let id = owned_event_id!("$id");
    Pdu::extract(rules, object, Limits::Trusted, id, json.into())
}

/// All that is told of an event.
fn told(pdu: &Pdu) -> String {
    let raw: Object = serde_json::from_str(pdu.raw_content()).unwrap();
    let names = (pdu.event_id(), pdu.room_id(), pdu.sender(), pdu.kind());
    let ties = (pdu.prev_events(), pdu.auth_events(), pdu.redacts());
    let numbers = (pdu.depth(), pdu.origin_server_ts(), pdu.sticky_ms());
    let said = (pdu.state_key(), pdu.membership(), pdu.content(), raw);
    let version = pdu.rules().id();
    format!(
        "{version} {names:?} {ties:?} {numbers:?} {said:?} {}",
        pdu.json()
    )
}

fn rules(version: &str) -> &'static RoomRules {
    RoomRules::named(version).unwrap()
}

/// The versions in which events aren't always read in full.
fn in_part() -> impl Iterator<Item = &'static RoomRules> {
    RoomRules::supported().filter(|rules| rules.format.event_id != EventIdFormat::Explicit)
}

/// An event as it is stored.
fn text(kind: &str, state: bool, content: &str) -> String {
    let state = if state { r#""state_key":"","# } else { "" };
    format!(
        r#"{{"auth_events":["$a"],"content":{content},"depth":7,"hashes":{{"sha256":"AAAA"}},"origin_server_ts":5,"prev_events":["$p"],"room_id":"!room","sender":"@alice:example.org","signatures":{{}},{state}"type":"{kind}"}}"#
    )
}

const KINDS: [&str; 9] = [
    "m.room.message",
    "m.room.encrypted",
    "m.room.member",
    "m.room.redaction",
    "m.room.redaction",
    "m.room.create",
    "m.room.power_levels",
    "m.room.topic",
    "odd \"\\\n\u{1}é",
];

/// What may be different between events, with ids and the room's id as the room's version has them.
#[derive(Debug, Clone)]
struct Parts {
    kind: &'static str,
    object: Object,
    prev_events: Vec<String>,
    auth_events: Vec<String>,
    number: Value,
}

impl Parts {
    fn event(&self, rules: &RoomRules) -> Object {
        let ids = |ids: &[String]| -> Value {
            let explicit = rules.format.event_id == EventIdFormat::Explicit;
            let pair = |id: &String| json!([format!("{id}:example.org"), {"sha256": "AAAA"}]);
            let id = |id: &String| if explicit { pair(id) } else { json!(id) };
            ids.iter().map(id).collect()
        };
        let mut object = self.object.clone();
        object.insert("type".into(), self.kind.into());
        object.insert("prev_events".into(), ids(&self.prev_events));
        object.insert("auth_events".into(), ids(&self.auth_events));
        if !rules.format.room_id_is_create_hash || self.kind != "m.room.create" {
            object.insert("room_id".into(), "!room".into());
        }
        if !rules.format.strict_json
            && let Some(Value::Object(content)) = object.get_mut("content")
        {
            content.insert("number".into(), self.number.clone());
        }
        object
    }
}

fn content() -> impl Strategy<Value = Object> {
    let membership = option::of(one_of(json!(["join", "knock", 1])));
    let redacts = option::of(one_of(json!(["$target", "target", []])));
    (strategy::object(), membership, redacts).prop_map(|(mut content, membership, redacts)| {
        content.extend(membership.map(|value| ("membership".to_owned(), value)));
        content.extend(redacts.map(|value| ("redacts".to_owned(), value)));
        content
    })
}

/// One of the values of an array.
fn one_of(values: Value) -> impl Strategy<Value = Value> {
    let Value::Array(values) = values else {
        panic!("not an array")
    };
    select(values)
}

fn sticky() -> impl Strategy<Value = Value> {
    let durations = one_of(json!([5, 4_000_000, -1, "5", {}]));
    prop_oneof![
        durations.prop_map(|duration| json!({ "duration_ms": duration, "x": [1] })),
        Just(Value::Null),
        Just(json!(5)),
    ]
}

fn parts() -> impl Strategy<Value = Parts> {
    let redacts = one_of(json!(["$top", "top", "$t:ü", 5, null]));
    let number = prop_oneof![
        any::<f64>().prop_filter_map("finite", |float| float.is_finite().then(|| json!(float))),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
    ];
    let most = i64::MAX >> 11;
    let optional = (
        option::of(any::<String>()),
        option::of(redacts),
        option::of(sticky()),
        option::of(strategy::object()),
    );
    let id = "\\$[a-zA-Z0-9_/+-]{1,43}";
    let ids = (
        prop::collection::vec(id, 0..4),
        prop::collection::vec(prop_oneof![20 => id, 1 => Just("$room".to_owned())], 0..4),
    );
    let numbers = (0..=most, -most..=most, number);
    (select(&KINDS[..]), content(), optional, ids, numbers).prop_map(
        |(
            kind,
            content,
            (state_key, redacts, sticky, unknown),
            (prev_events, auth_events),
            (depth, ts, number),
        )| {
            let mut object = Object::new();
            let mut put = |name: &str, value: Option<Value>| {
                object.extend(value.map(|value| (name.to_owned(), value)));
            };
            put("sender", Some("@alice:example.org".into()));
            put("content", Some(content.into()));
            put("depth", Some(depth.into()));
            put("origin_server_ts", Some(ts.into()));
            put("hashes", Some(json!({ "sha256": "AAAA" })));
            put(
                "signatures",
                Some(json!({ "example.org": { "ed25519:a": "AAAA" } })),
            );
            put("state_key", state_key.map(Value::from));
            put("redacts", redacts);
            put(sticky::KEY, sticky);
            put("org.example.unknown", unknown.map(Value::from));
            Parts {
                kind,
                object,
                prev_events,
                auth_events,
                number,
            }
        },
    )
}

fn wrong() -> impl Strategy<Value = (&'static str, Option<Value>)> {
    let values = one_of(json!([
        null, true, -1, 5.0, u64::MAX, "@x:y", "!x", "$x", { "a": 1 }, [], ["$x"], [["$x", {}]], ["$x", 5],
        vec!["$x"; 11], vec!["$x"; 21]
    ]));
    (select(&FIELDS[..]), option::of(values))
}

const FIELDS: [&str; 12] = [
    "type",
    "sender",
    "room_id",
    "content",
    "depth",
    "origin_server_ts",
    "prev_events",
    "auth_events",
    "state_key",
    "redacts",
    sticky::KEY,
    "hashes",
];

proptest! {
    #[test]
    fn events_are_what_they_were_when_they_were_read_in_full(parts in parts()) {
        for rules in RoomRules::supported() {
            let json = to_canonical_with(&parts.event(rules), rules.strictness()).unwrap();
            let (now, then) = (read(rules, &json), read_in_full(rules, &json));
            if let Ok(pdu) = &now {
                let explicit = rules.format.event_id == EventIdFormat::Explicit;
                let is_state = parts.object.contains_key("state_key");
                let is_read = explicit || is_state || is_read_first(parts.kind);
                prop_assert_eq!(pdu.content.get().is_some(), is_read);
                prop_assert_eq!(pdu.content_at.is_some(), !explicit);
                let copy = pdu.clone();
                prop_assert_eq!(told(&copy.redacted()), told(&pdu.redacted()));
                prop_assert_eq!(told(&copy), told(pdu));
            }
            prop_assert_eq!(now.as_ref().map(told), then.as_ref().map(told));
            let redacted = |pdu: &Pdu| told(&pdu.redacted());
            prop_assert_eq!(now.as_ref().map(redacted), then.as_ref().map(redacted));
        }
    }

    #[test]
    fn what_is_wrong_is_told_as_before(parts in parts(), (field, value) in wrong()) {
        for rules in RoomRules::supported() {
            let mut event = parts.event(rules);
            match &value {
                Some(value) => drop(event.insert(field.to_owned(), value.clone())),
                None => drop(event.remove(field)),
            }
            let json = Value::Object(event).to_string();
            let (now, then) = (read(rules, &json), read_in_full(rules, &json));
            prop_assert_eq!(now.as_ref().map(told), then.as_ref().map(told), "{}", json);
        }
    }

    #[test]
    fn a_name_is_found_wherever_it_is(
        mut content in content(),
        name in any::<String>(),
        is_there: bool,
    ) {
        if is_there {
            content.insert(name.clone(), json!(1));
        }
        let raw = Value::Object(content.clone()).to_string();
        for raw in [raw.clone(), raw.replace('m', "\\u006d").replace('/', "\\/")] {
            let pdu = read(rules("11"), &text("m.room.message", false, &raw)).unwrap();
            for name in [&*name, "membership", "redacts"] {
                let fresh = pdu.clone();
                prop_assert_eq!(fresh.content_field(name), content.get(name));
                prop_assert!(!content.contains_key(name) || !pdu.surely_lacks(name));
            }
        }
    }
}

#[test]
fn truncated_text_is_an_error() {
    for rules in in_part() {
        for (kind, state) in [("m.room.message", false), ("m.room.topic", true)] {
            let whole = text(kind, state, r#"{"body":"\"hi\"","n":[1,{}]}"#);
            assert!(read(rules, &whole).is_ok());
            for end in 0..whole.len() {
                assert!(read(rules, &whole[..end]).is_err(), "{}", &whole[..end]);
            }
            assert!(read(rules, &format!("{whole}}}")).is_err());
        }
    }
}

#[test]
fn wrong_types_of_each_field_are_errors() {
    let whole: Object = serde_json::from_str(&text("m.room.message", true, "{}")).unwrap();
    for rules in in_part() {
        for field in FIELDS {
            let may_be_anything = ["redacts", "hashes", sticky::KEY].contains(&field);
            for wrong in [
                json!(null),
                json!(true),
                json!(1.5),
                json!([5]),
                json!("\u{0}"),
            ] {
                let mut event = whole.clone();
                event.insert(field.to_owned(), wrong.clone());
                let fits = may_be_anything
                    || (["type", "state_key"].contains(&field) && wrong.is_string());
                let read = read(rules, &Value::Object(event).to_string());
                assert_eq!(read.is_ok(), fits, "{field} = {wrong} in {}", rules.id());
            }
            let mut event = whole.clone();
            event.remove(field);
            let read = read(rules, &Value::Object(event).to_string());
            let may_lack = may_be_anything || field == "state_key";
            assert_eq!(read.is_ok(), may_lack, "without {field}");
        }
    }
}

#[test]
fn content_is_an_object() {
    for rules in in_part() {
        for (kind, state) in [("m.room.message", false), ("m.room.topic", true)] {
            for wrong in [
                "null", "[]", "\"x\"", "5", "true", "[{}]", "{1:2}", "{\"a\":}", "nul",
            ] {
                assert!(read(rules, &text(kind, state, wrong)).is_err(), "{wrong}");
            }
        }
    }
}

/// Of a message what only its content shows is found by who reads that; nobody gets it as if it were redacted.
#[test]
fn damage_within_the_content() {
    for rules in in_part() {
        for damage in [r#""\ud800""#, "1e999"] {
            let content = format!(r#"{{"body":"secret","x":{damage}}}"#);
            for (kind, state) in [
                ("m.room.topic", true),
                ("m.room.member", false),
                ("m.room.redaction", false),
                ("m.room.power_levels", false),
                ("m.room.create", true),
            ] {
                assert!(read(rules, &text(kind, state, &content)).is_err(), "{kind}");
            }
            let json = text("m.room.message", false, &content);
            let message = read(rules, &json).unwrap();
            let id = message.event_id().to_owned();
            assert!(Pdu::from_stored_in_full(rules, id, json.into()).is_err());
            assert!(message.content().is_empty() && !message.is_whole());
            assert_eq!(message.raw_content(), content);
            let redacted = message.redacted();
            assert!(redacted.content().is_empty() && !redacted.json().contains("secret"));
            assert_eq!(redacted.raw_content(), "{}");
            assert_eq!(redacted.redacted(), redacted);
        }
    }
}

/// What no event of ours looks like is read as it was.
#[test]
fn odd_texts() {
    let rules = rules("11");
    let plain = text("m.room.message", false, r#"{"a":1}"#);
    let mut odd = vec![
        format!(" {plain} "),
        plain.replace(':', " : ").replace(" : example", ":example"),
    ];
    for field in [
        "\"type\":\"x\"",
        "\"type\":5",
        "\"depth\":9",
        "\"content\":{\"b\":2}",
        "\"content\":5",
    ] {
        odd.push(format!("{{{field},{}", &plain[1..]));
        odd.push(format!("{},{field}}}", &plain[..plain.len() - 1]));
    }
    let fields = r#"["m.room.message","@a:b","!r","",[],[],1,1,{},null,null]"#;
    odd.push(fields.to_owned());
    for json in odd {
        let content = |pdu: &Pdu| (pdu.kind().to_owned(), pdu.depth(), pdu.content().clone());
        let (now, then) = (read(rules, &json), read_in_full(rules, &json));
        let (now, then) = (now.as_ref().map(content), then.as_ref().map(content));
        assert_eq!(now, then, "{json}");
    }
    let spaced = plain.replace(r#""content":{"a":1}"#, r#""content" : {"a" : 1 } "#);
    let pdu = read(rules, &spaced).unwrap();
    assert_eq!(pdu.raw_content(), r#"{"a" : 1 }"#);
}

#[test]
fn content_is_read_when_it_is_asked_for() {
    let raw = r#"{"body":"hi","m.relates_to":{"rel_type":"m.thread"}}"#;
    let pdu = read(rules("11"), &text("m.room.message", false, raw)).unwrap();
    assert!(pdu.surely_lacks("@") && !pdu.surely_lacks("m.thread"));
    assert_eq!(pdu.content_field("url"), None);
    assert!(pdu.content.get().is_none(), "nothing has been asked for");
    assert_eq!(
        pdu.content_field("m.relates_to").unwrap()["rel_type"],
        "m.thread"
    );
    assert!(pdu.content.get().is_some() && !pdu.surely_lacks("@"));
    assert_eq!(pdu.raw_content(), raw);
}
