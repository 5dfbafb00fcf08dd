use serde_json::{Value, json};

use crate::{
    Pdu, Rejection, RoomRules, canonical::parse_object, event::limits::MAX_BYTES,
    rules::EventIdFormat,
};

fn event() -> Value {
    json!({"type": "m.room.message", "sender": "@alice:example.org", "room_id": "!room:example.org",
        "content": {"body": "hi"}, "depth": 7, "origin_server_ts": 1_700_000_000_000_i64,
        "prev_events": ["$prev"], "auth_events": ["$a", "$b"],
        "hashes": {"sha256": "AAAA"}, "signatures": {"example.org": {}}, "unsigned": {"age": 5}})
}

fn parse(version: &str, event: &Value) -> Result<Pdu, Rejection> {
    // Through text, as events come.
    let object = parse_object(event.to_string().as_bytes()).unwrap();
    Pdu::parse(RoomRules::named(version).unwrap(), object)
}

#[test]
fn a_good_event() {
    let pdu = parse("10", &event()).unwrap();
    assert_eq!(pdu.event_id().as_str().len(), 44);
    assert_eq!(pdu.room_id(), "!room:example.org");
    assert_eq!(pdu.sender(), "@alice:example.org");
    assert_eq!(
        (pdu.kind(), pdu.state_key(), pdu.depth()),
        ("m.room.message", None, 7)
    );
    assert_eq!(pdu.prev_events(), ["$prev"]);
    assert!(!pdu.json().contains("unsigned"));

    let stored =
        Pdu::from_stored(pdu.rules(), pdu.event_id().to_owned(), pdu.json().clone()).unwrap();
    assert_eq!(stored, pdu);
    let redacted = pdu.redacted();
    assert!(redacted.content().is_empty() && !redacted.json().contains("body"));
    assert_eq!(redacted.event_id(), pdu.event_id());
    assert_eq!(redacted.redacted(), redacted);
    let again = Pdu::parse(
        pdu.rules(),
        parse_object(redacted.json().as_bytes()).unwrap(),
    )
    .unwrap();
    assert_eq!(
        again.event_id(),
        pdu.event_id(),
        "redaction doesn't change the id"
    );
}

#[test]
fn wrong_types_in_every_field_are_errors() {
    let optional = ["state_key"];
    for field in [
        "type",
        "sender",
        "room_id",
        "content",
        "depth",
        "origin_server_ts",
        "prev_events",
        "auth_events",
        "hashes",
        "signatures",
        "state_key",
    ] {
        for wrong in [
            json!(null),
            json!(true),
            json!(-1.5),
            json!({"x": 1}),
            json!([1]),
            json!([null, {}]),
            json!([[5]]),
            json!(12),
            json!("x\u{0}"),
        ] {
            let fits = match field {
                "type" | "state_key" => wrong.is_string(),
                "content" => wrong.is_object(),
                "depth" | "origin_server_ts" => wrong == json!(12),
                _ => false,
            };
            let mut bad = event();
            bad[field] = wrong.clone();
            for version in ["10", "11", "12"] {
                assert_eq!(
                    parse(version, &bad).is_ok(),
                    fits,
                    "{field} = {wrong} in {version}"
                );
            }
        }
        if !optional.contains(&field) {
            let mut bad = event();
            bad.as_object_mut().unwrap().remove(field);
            assert!(parse("11", &bad).is_err(), "without {field}");
        }
    }
}

#[test]
fn limits_on_strings_count_code_points_before_v11() {
    let long = "é".repeat(200);
    for (field, value) in [
        ("type", long.clone()),
        ("state_key", long.clone()),
        ("sender", format!("@{long}:b")),
        ("room_id", format!("!{long}:b")),
    ] {
        let mut event = event();
        event[field] = json!(value);
        assert!(parse("10", &event).is_ok(), "{field}");
        assert!(parse("11", &event).is_err(), "{field}");
        event[field] = json!(format!("@{}:b", "é".repeat(254)));
        assert!(parse("10", &event).is_err(), "{field}");
    }
}

#[test]
fn limits_on_sizes_and_counts() {
    let with = |field: &str, value: Value| {
        let mut event = event();
        event[field] = value;
        parse("11", &event)
    };
    let ids = |count: usize| json!((0..count).map(|n| format!("${n}")).collect::<Vec<_>>());
    assert!(with("prev_events", ids(20)).is_ok());
    assert!(with("prev_events", ids(21)).is_err());
    assert!(with("auth_events", ids(10)).is_ok());
    assert!(with("auth_events", ids(11)).is_err());
    assert!(with("auth_events", json!([format!("${}", "x".repeat(255))])).is_err());
    assert!(with("depth", json!((1_i64 << 53) - 1)).is_ok());
    assert!(with("depth", json!(1_i64 << 53)).is_err());
    assert!(with("depth", json!(-1)).is_err());
    assert!(
        with("unsigned", json!("x".repeat(100_000))).is_ok(),
        "what is dropped doesn't count"
    );

    let base = parse("11", &event()).unwrap().json().len();
    let body = |length: usize| with("content", json!({"body": "x".repeat(length + 2)}));
    assert_eq!(body(MAX_BYTES - base).unwrap().json().len(), MAX_BYTES);
    assert!(body(MAX_BYTES - base + 1).is_err());
    assert!(with("content", json!({"x": 1.5})).is_err());
    assert!(with("content", json!({"x": 1_u64 << 53})).is_err());
}

#[test]
fn create_events_of_v12_have_no_room_id() {
    let mut create = event();
    create["type"] = json!("m.room.create");
    create["state_key"] = json!("");
    create["auth_events"] = json!([]);
    create["prev_events"] = json!([]);
    assert!(parse("11", &create).is_ok());
    assert_eq!(parse("12", &create).unwrap_err().rule, "auth 1.2");
    create.as_object_mut().unwrap().remove("room_id");
    assert!(parse("11", &create).is_err());
    let create = parse("12", &create).unwrap();
    assert_eq!(
        create.room_id().as_str()[1..],
        create.event_id().as_str()[1..]
    );
    assert_eq!(create.redacted().room_id(), create.room_id());
    let stored = Pdu::from_stored(
        create.rules(),
        create.event_id().to_owned(),
        create.json().clone(),
    )
    .unwrap();
    assert_eq!(stored.room_id(), create.room_id());

    let mut message = event();
    message["room_id"] = json!(create.room_id());
    assert_eq!(
        parse("12", &message).unwrap().implied_create().unwrap(),
        create.event_id()
    );
    message["auth_events"] = json!([create.event_id()]);
    assert!(
        parse("12", &message).is_err(),
        "auth events with the create event"
    );
    assert!(parse("11", &message).is_ok());
}

#[test]
fn redacts_stands_where_the_version_has_it() {
    let mut redaction = event();
    redaction["type"] = json!("m.room.redaction");
    redaction["redacts"] = json!("$top");
    redaction["content"] = json!({"redacts": "$content"});
    assert_eq!(parse("10", &redaction).unwrap().redacts().unwrap(), "$top");
    assert_eq!(
        parse("11", &redaction).unwrap().redacts().unwrap(),
        "$content"
    );
    redaction["redacts"] = json!(1);
    assert_eq!(parse("10", &redaction).unwrap().redacts(), None);
}

/// Versions 1 and 2: the id is in the event, and events are named with hashes.
#[test]
fn ids_that_servers_choose() {
    let mut old = event();
    old["event_id"] = json!("$0:example.org");
    old["prev_events"] = json!([["$prev:example.org", {"sha256": "AAAA"}], ["$other:two.org", {}]]);
    old["auth_events"] = json!([]);
    for version in ["1", "2"] {
        let pdu = parse(version, &old).unwrap();
        assert_eq!(pdu.event_id(), "$0:example.org");
        assert_eq!(pdu.prev_events(), ["$prev:example.org", "$other:two.org"]);
        let stored =
            Pdu::from_stored(pdu.rules(), pdu.event_id().to_owned(), pdu.json().clone()).unwrap();
        assert_eq!(stored, pdu);
        assert_eq!(pdu.redacted().event_id(), pdu.event_id());
        assert_eq!(pdu.redacted().prev_events(), pdu.prev_events());
        assert_eq!(pdu.redacted().reference_hash(), pdu.reference_hash());
        assert!(pdu.reference_hash().is_some());
        for (field, wrong) in [
            ("event_id", json!("$0")),
            ("event_id", json!("0:example.org")),
            ("event_id", json!(null)),
            (
                "event_id",
                json!(format!("${}:example.org", "x".repeat(255))),
            ),
            ("prev_events", json!(["$prev:example.org"])),
            (
                "prev_events",
                json!([[{"sha256": "AAAA"}, "$prev:example.org"]]),
            ),
            ("prev_events", json!([[]])),
            ("auth_events", json!(["$a:example.org"])),
        ] {
            let mut bad = old.clone();
            bad[field] = wrong;
            assert!(parse(version, &bad).is_err(), "{field} {}", bad[field]);
        }
    }
    assert!(parse("3", &old).is_err(), "pairs in version 3");
    let v3 = parse("3", &event()).unwrap();
    let v4 = parse("4", &event()).unwrap();
    let url_safe = v3.event_id().as_str().replace('+', "-").replace('/', "_");
    assert_eq!(
        v4.event_id(),
        url_safe.as_str(),
        "the same hash in another alphabet"
    );
}

/// Versions 1 to 5 put up with numbers that canonical JSON doesn't have; depths go up to 64 bits.
#[test]
fn old_versions_tolerate_numbers() {
    for rules in RoomRules::supported() {
        let old = !rules.format.strict_json;
        for number in [
            json!(1.5),
            json!(1_u64 << 60),
            json!(u64::MAX),
            json!(-1e300),
        ] {
            let mut event = event();
            if rules.format.event_id == EventIdFormat::Explicit {
                event["event_id"] = json!("$0:b");
                event["prev_events"] = json!([]);
                event["auth_events"] = json!([]);
            }
            event["content"] = json!({"deep": [{"n": number}]});
            let pdu = Pdu::parse(rules, event.as_object().unwrap().clone());
            assert_eq!(pdu.is_ok(), old, "{number} in {}", rules.id());
            if let Ok(pdu) = pdu {
                let again = parse_object(pdu.json().as_bytes()).unwrap();
                assert_eq!(Pdu::parse(rules, again).unwrap(), pdu);
            }
            event["content"] = json!({});
            event["depth"] = json!(rules.max_depth());
            assert!(Pdu::parse(rules, event.as_object().unwrap().clone()).is_ok());
            event["depth"] = json!(rules.max_depth().unsigned_abs() + 1);
            assert!(Pdu::parse(rules, event.as_object().unwrap().clone()).is_err());
        }
    }
}

#[test]
fn an_event_id_that_hashes_cover_stays() {
    let plain = parse("11", &event()).unwrap();
    let mut with_id = event();
    with_id["event_id"] = json!("$mine");
    let with_id = parse("11", &with_id).unwrap();
    assert_ne!(plain.event_id(), with_id.event_id());
    assert_ne!(with_id.event_id(), "$mine");
    assert!(with_id.json().contains("$mine"));
}
