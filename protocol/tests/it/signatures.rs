//! Hashes and signatures, compared with ruma's.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rhizome_protocol::{
    Object, Pdu, RoomRules,
    canonical::{parse_object, to_canonical},
    hash,
    receive::{KeyLookup, Keys, verify},
    rules::EventIdFormat,
    sign::{KeyPair, hash_and_sign_pdu, sign_json, sign_pdu, verify_json},
};
use ruma::{CanonicalJsonObject, ServerName, server_name};
use ruma_signatures::Ed25519KeyPair;
use serde_json::{Value, json};

use crate::room::{VERSIONS, object};

const SEED: [u8; 32] = [9; 32];

struct One(KeyPair);

impl Keys for One {
    fn key(&self, server: &ServerName, key_id: &str, _: i64) -> KeyLookup {
        assert_eq!((server.as_str(), key_id), ("one.org", self.0.key_id()));
        KeyLookup::Found(self.0.public())
    }
}

fn ours() -> KeyPair {
    KeyPair::from_seed("k_1", &SEED).unwrap()
}

fn theirs() -> Ed25519KeyPair {
    let mut der = vec![
        0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
    ];
    der.extend(SEED);
    Ed25519KeyPair::from_der(&der, "k_1".to_owned()).unwrap()
}

fn as_ruma(object: &Object) -> CanonicalJsonObject {
    serde_json::from_str(&to_canonical(object).unwrap()).unwrap()
}

fn content() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1000_i64..1000).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(
            json!({"signed": {"mxid": "@a:b", "token": "x", "signatures": {}}, "display_name": "x"})
        ),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "membership",
            "third_party_invite",
            "creator",
            "m.federate",
            "join_rule",
            "allow",
            "users",
            "invite",
            "ban",
            "events",
            "notifications",
            "history_visibility",
            "redacts",
            "aliases",
            "body",
            "kick",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    prop::collection::hash_map(key, leaf, 0..8)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

fn event() -> impl Strategy<Value = Value> {
    let kind = prop::sample::select(vec![
        "m.room.member",
        "m.room.create",
        "m.room.join_rules",
        "m.room.power_levels",
        "m.room.history_visibility",
        "m.room.aliases",
        "m.room.redaction",
        "m.room.message",
        "x",
    ]);
    let extra = prop::sample::select(vec![
        "origin",
        "membership",
        "prev_state",
        "redacts",
        "event_id",
        "age",
        "z",
    ]);
    (kind, content(), prop::option::of(any::<String>()), prop::collection::hash_map(extra, "[a-z]{1,5}", 0..4), 0..1_000_000_i64)
        .prop_map(|(kind, mut content, state_key, extra, ts)| {
            // What ruma demands to know whose signature an event needs.
            if kind == "m.room.member" {
                content["membership"] = json!("join");
            }
            // ruma keeps such a value in a redaction; Synapse, whose hashes the network knows, doesn't.
            if content.get("third_party_invite").is_some_and(|invite| !invite.is_object()) {
                content.as_object_mut().unwrap().remove("third_party_invite");
            }
            let mut event = json!({"type": kind, "content": content, "sender": "@a:one.org", "room_id": "!r:one.org",
                "depth": 1, "origin_server_ts": ts, "prev_events": [], "auth_events": [], "unsigned": {"age": 1}});
            for (key, value) in extra {
                event[key] = json!(value);
            }
            if let Some(state_key) = state_key {
                event["state_key"] = json!(state_key.chars().take(60).collect::<String>());
            }
            event
        })
}

/// The sender's, the event id's, and that of whoever lets a user in.
const SERVERS: [&str; 3] = ["one.org", "two.org", "three.org"];

fn key_of(server: &str) -> KeyPair {
    KeyPair::from_seed("k_1", &[server.as_bytes()[1]; 32]).unwrap()
}

struct All;

impl Keys for All {
    fn key(&self, server: &ServerName, _: &str, _: i64) -> KeyLookup {
        KeyLookup::Found(key_of(server.as_str()).public())
    }
}

/// What in a membership's content decides who signs it, or only changes its hash.
#[derive(Debug, Clone)]
struct Marks {
    third_party: Option<Value>,
    authoriser: Option<&'static str>,
    reason: Option<&'static str>,
}

fn marks() -> impl Strategy<Value = Marks> {
    let third_party = prop::sample::select(vec![
        None,
        None,
        Some(json!({})),
        Some(json!({"display_name": "x"})),
        Some(json!({"display_name": "x", "signed": {"token": "x"}})),
        Some(json!("x")),
    ]);
    let authoriser = prop::sample::select(vec![None, None, Some("@b:three.org")]);
    let reason = prop::sample::select(vec![None, Some("x"), Some("y")]);
    (third_party, authoriser, reason).prop_map(|(third_party, authoriser, reason)| Marks {
        third_party,
        authoriser,
        reason,
    })
}

impl Marks {
    /// Makes the event's content have these and no others.
    fn put(&self, event: &mut Object) {
        let content = event["content"].as_object_mut().unwrap();
        let mut set = |key: &str, value: Option<Value>| match value {
            Some(value) => drop(content.insert(key.to_owned(), value)),
            None => drop(content.remove(key)),
        };
        set("third_party_invite", self.third_party.clone());
        set(
            "join_authorised_via_users_server",
            self.authoriser.map(Value::from),
        );
        set("reason", self.reason.map(Value::from));
    }
}

proptest! {
    #[test]
    fn events_are_hashed_and_signed_as_ruma_does(event in event(), version in prop::sample::select(&VERSIONS[..])) {
        let rules = RoomRules::named(version).unwrap();
        let ruma_rules = rules.version.rules().unwrap();
        let mut ours_signed = object(event);
        let explicit = rules.format.event_id == EventIdFormat::Explicit;
        if explicit {
            ours_signed.insert("event_id".into(), json!("$x:one.org"));
            ours_signed.insert("prev_events".into(), json!([["$p:one.org", {"sha256": "AAAA"}]]));
        }
        if version == "12" && ours_signed["type"] == "m.room.create" {
            ours_signed.remove("room_id");
        }
        let mut theirs_signed = as_ruma(&ours_signed);
        hash_and_sign_pdu(rules, &mut ours_signed, server_name!("one.org"), &ours()).unwrap();
        ruma_signatures::hash_and_sign_event("one.org", &theirs(), &mut theirs_signed, &ruma_rules.redaction).unwrap();
        prop_assert_eq!(&as_ruma(&ours_signed), &theirs_signed);

        let reference = hash::reference_hash(rules, &ours_signed).unwrap();
        let reference = if rules.format.event_id == EventIdFormat::UrlSafeHash {
            hash::to_url_base64(&reference)
        } else {
            hash::to_base64(&reference)
        };
        prop_assert_eq!(&reference, &ruma_signatures::reference_hash(&theirs_signed, &ruma_rules).unwrap());

        let text = to_canonical(&ours_signed).unwrap();
        let pdu = verify(rules, parse_object(text.as_bytes()).unwrap(), &One(ours())).unwrap();
        if explicit {
            prop_assert_eq!(pdu.event_id().as_str(), "$x:one.org");
            prop_assert_eq!(pdu.prev_events(), ["$p:one.org"]);
        } else {
            prop_assert_eq!(pdu.event_id().as_str(), format!("${reference}"));
        }
        prop_assert!(!pdu.json().contains("unsigned") || text.matches("unsigned").count() > 1);
        // The redacted copy keeps id and signature.
        let redacted = parse_object(pdu.redacted().json().as_bytes()).unwrap();
        prop_assert_eq!(verify(rules, redacted, &One(ours())).unwrap(), pdu.redacted());
        let stored = Pdu::from_stored(rules, pdu.event_id().to_owned(), pdu.json().clone()).unwrap();
        prop_assert_eq!(stored, pdu);
    }

    #[test]
    fn json_is_signed_as_ruma_does(content in content()) {
        let mut ours_signed = object(content);
        let mut theirs_signed = as_ruma(&ours_signed);
        sign_json(&mut ours_signed, server_name!("one.org"), &ours()).unwrap();
        ruma_signatures::sign_json("one.org", &theirs(), &mut theirs_signed).unwrap();
        prop_assert_eq!(&as_ruma(&ours_signed), &theirs_signed);
        verify_json(&ours_signed, server_name!("one.org"), "ed25519:k_1", &ours().public()).unwrap();
        let keys = BTreeMap::from([("ed25519:k_1".to_owned(), ruma::serde::Base64::new(ours().public().to_vec()))]);
        ruma_signatures::verify_json(&BTreeMap::from([("one.org".to_owned(), keys)]), &as_ruma(&ours_signed)).unwrap();
    }

    /// Whoever signed, and whatever happened to it since: what is kept of an event would pass by itself, and
    /// says nothing in the name of a server that didn't sign.
    #[test]
    fn what_is_kept_of_an_event_passes_by_itself(
        membership in prop::sample::select(vec!["invite", "invite", "join", "leave"]),
        signed_with in marks(),
        came_with in prop_oneof![Just(None), marks().prop_map(Some)],
        signers in prop::sample::subsequence(SERVERS.to_vec(), 0..=SERVERS.len()),
        version in prop::sample::select(&VERSIONS[..]),
    ) {
        let rules = RoomRules::named(version).unwrap();
        let mut event = object(json!({"type": "m.room.member", "content": {"membership": membership}, "sender": "@a:one.org",
            "room_id": "!r:one.org", "event_id": "$x:two.org", "state_key": "@a:one.org", "depth": 1, "origin_server_ts": 1,
            "prev_events": [], "auth_events": [], "signatures": {}}));
        signed_with.put(&mut event);
        let content_hash = hash::content_hash(rules, &event).unwrap();
        event.insert("hashes".into(), json!({"sha256": hash::to_base64(&content_hash)}));
        for server in &signers {
            let name = ServerName::parse(*server).unwrap();
            sign_pdu(rules, &mut event, &name, &key_of(server)).unwrap();
        }
        if let Some(marks) = &came_with {
            marks.put(&mut event);
        }
        let Ok(kept) = verify(rules, event, &All) else {
            return Ok(());
        };
        let again = parse_object(kept.json().as_bytes()).unwrap();
        prop_assert_eq!(verify(rules, again, &All), Ok(kept.clone()));
        let content = kept.content();
        if !(membership == "invite" && content.contains_key("third_party_invite")) {
            prop_assert!(signers.contains(&"one.org"), "{:?}", content);
        }
        if rules.auth.restricted && content.contains_key("join_authorised_via_users_server") {
            prop_assert!(signers.contains(&"three.org"), "{:?}", content);
        }
        if rules.format.event_id == EventIdFormat::Explicit {
            prop_assert!(signers.contains(&"two.org"));
        }
        // Whole it has all that was signed with it, and otherwise what a redaction leaves.
        prop_assert_eq!(kept.redacted() == kept || kept.is_whole(), true);
    }

    /// Whatever JSON comes, the answer is an event or a reason.
    #[test]
    fn hostile_events_never_panic(event in event(), field in "[a-z_]{4,16}|type|content|sender|hashes|signatures|auth_events|depth|state_key", value in content(), version in prop::sample::select(&VERSIONS[..])) {
        let rules = RoomRules::named(version).unwrap();
        let mut event = object(event);
        event.insert("hashes".into(), json!({"sha256": "x"}));
        event.insert("signatures".into(), json!({}));
        event.insert(field, value);
        let _ = Pdu::parse(rules, event.clone());
        let _ = verify(rules, event, &Nothing);
    }
}

struct Nothing;

impl Keys for Nothing {
    fn key(&self, _: &ServerName, _: &str, _: i64) -> KeyLookup {
        KeyLookup::Unknown
    }
}
