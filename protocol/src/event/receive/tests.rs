use std::collections::HashMap;

use ruma::server_name;
use serde_json::{Value, json};

use super::*;
use crate::{
    Object,
    canonical::parse_object,
    rules::EventIdFormat,
    sign::{KeyPair, hash_and_sign_pdu, sign_pdu},
};

#[derive(Default)]
struct Ring(HashMap<(String, String), KeyLookup>);

impl Ring {
    fn with(mut self, server: &str, key: &KeyPair) -> Self {
        self.0.insert(
            (server.into(), key.key_id().into()),
            KeyLookup::Found(key.public()),
        );
        self
    }
}

impl Keys for Ring {
    fn key(&self, server: &ServerName, key_id: &str, _: i64) -> KeyLookup {
        self.0
            .get(&(server.to_string(), key_id.to_owned()))
            .copied()
            .unwrap_or(KeyLookup::Unknown)
    }
}

fn key(version: &str) -> KeyPair {
    KeyPair::from_seed(version, &[version.as_bytes()[0]; 32]).unwrap()
}

fn rules() -> &'static RoomRules {
    RoomRules::named("11").unwrap()
}

fn unsigned(kind: &str, content: &Value) -> Object {
    let event = json!({"type": kind, "sender": "@a:one.org", "room_id": "!r:one.org", "state_key": "@a:one.org",
        "content": content, "depth": 1, "origin_server_ts": 1, "prev_events": [], "auth_events": []});
    parse_object(event.to_string().as_bytes()).unwrap()
}

fn signed(kind: &str, content: &Value) -> Object {
    let mut event = unsigned(kind, content);
    hash_and_sign_pdu(rules(), &mut event, server_name!("one.org"), &key("a")).unwrap();
    event
}

fn invalid(result: Result<Pdu, Refusal>) -> String {
    match result {
        Err(Refusal::Invalid(rejection) | Refusal::Forged(_, rejection)) => rejection.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_event_and_what_forgers_do_to_it() {
    let ring = Ring::default().with("one.org", &key("a"));
    let good = signed("x", &json!({"body": "hi"}));
    let pdu = verify(rules(), good.clone(), &ring).unwrap();
    assert_eq!(pdu.content()["body"], "hi");

    let mut changed = good.clone();
    changed["content"]["body"] = json!("bye");
    let changed = verify(rules(), changed, &ring).unwrap();
    assert!(
        changed.content().is_empty(),
        "another content: the event comes redacted"
    );
    assert_eq!(changed.event_id(), pdu.event_id());
    assert_eq!(
        verify(
            rules(),
            parse_object(pdu.redacted().json().as_bytes()).unwrap(),
            &ring
        )
        .unwrap(),
        changed
    );

    for (field, value) in [
        ("depth", json!(2)),
        ("sender", json!("@b:one.org")),
        ("prev_events", json!(["$x"])),
        ("type", json!("y")),
    ] {
        let mut forged = good.clone();
        forged.insert(field.into(), value);
        assert!(
            invalid(verify(rules(), forged, &ring)).contains("is wrong"),
            "{field}"
        );
    }
    let mut stolen = good.clone();
    stolen.insert("sender".into(), json!("@a:two.org"));
    assert!(invalid(verify(rules(), stolen, &ring)).contains("two.org has not signed"));
    let mut bare = good.clone();
    bare.insert("signatures".into(), json!({}));
    assert!(invalid(verify(rules(), bare, &ring)).contains("has not signed"));
    let mut hashless = good;
    hashless.insert("hashes".into(), json!({"sha256": "!"}));
    assert!(invalid(verify(rules(), hashless, &ring)).contains("hashes"));
}

/// Who has made a signature that isn't one is told from who has made none, and from who is only named.
#[test]
fn a_wrong_signature_is_the_fault_of_its_server() {
    let (two, ring) = (server_name!("two.org"), Ring::default());
    let ring = ring.with("one.org", &key("a")).with("two.org", &key("bb"));
    let fault = |event: &Object| match verify(rules(), event.clone(), &ring) {
        Err(Refusal::Forged(server, _)) => Some(server),
        Err(Refusal::Invalid(_)) => None,
        other => panic!("{other:?}"),
    };
    let mut wrong = signed("x", &json!({}));
    wrong["signatures"]["one.org"]["ed25519:a"] = json!("A".repeat(86));
    assert_eq!(fault(&wrong).unwrap(), "one.org");
    wrong["signatures"] = json!({});
    assert_eq!(fault(&wrong), None);
    wrong["signatures"] = json!({ "one.org": { "ed25519:gone": "A".repeat(86) } });
    let gone = (
        ("one.org".into(), "ed25519:gone".into()),
        KeyLookup::Expired,
    );
    let mut expired = Ring::default();
    expired.0.extend([gone]);
    let refused = verify(rules(), wrong, &expired);
    assert!(matches!(refused, Err(Refusal::Invalid(_))));

    let content = json!({"membership": "join", "join_authorised_via_users_server": "@b:two.org"});
    let mut join = signed("m.room.member", &content);
    assert_eq!(fault(&join), None, "two.org hasn't signed it");
    sign_pdu(rules(), &mut join, two, &key("bb")).unwrap();
    join["signatures"]["two.org"]["ed25519:bb"] = json!("A".repeat(86));
    assert_eq!(fault(&join).unwrap(), "two.org");
}

#[test]
fn unknown_keys_are_asked_for_and_expired_ones_are_skipped() {
    let mut event = signed("x", &json!({}));
    assert_eq!(
        verify(rules(), event.clone(), &Ring::default()),
        Err(Refusal::NeedKeys(vec![(
            server_name!("one.org").to_owned(),
            "ed25519:a".into()
        )]))
    );
    let mut ring = Ring::default();
    ring.0
        .insert(("one.org".into(), "ed25519:a".into()), KeyLookup::Expired);
    assert!(invalid(verify(rules(), event.clone(), &ring)).contains("valid key"));

    // A second, valid key is enough, whatever else is there.
    sign_pdu(rules(), &mut event, server_name!("one.org"), &key("bb")).unwrap();
    event["signatures"]["one.org"]["curve:x"] = json!("?");
    event["signatures"]["one.org"]["ed25519:zzz"] = json!("?");
    let ring = ring.with("one.org", &key("bb"));
    assert!(verify(rules(), event.clone(), &ring).is_ok());
    // But a wrong signature by a known key is not.
    event["signatures"]["one.org"]["ed25519:zzz"] = json!("AAAA");
    assert!(
        invalid(verify(rules(), event, &ring.with("one.org", &key("zzz")))).contains("is wrong")
    );
}

/// A policy server's key isn't among those that its server publishes, so nobody looks for it, nor for what it says of an event
/// of that server's own users.
#[test]
fn the_key_of_a_policy_server_is_passed_over() {
    let server = server_name!("one.org");
    let mut event = signed("x", &json!({}));
    let names = |event: &Object| -> Vec<String> {
        let found = signatures_of(event.get("signatures"), server);
        found.map(|(id, _)| id.clone()).collect()
    };
    event["signatures"]["one.org"]["ed25519:policy_server"] = json!("AAAA");
    assert_eq!(names(&event), ["ed25519:a"]);
    let ring = Ring::default().with("one.org", &key("a"));
    assert!(verify(rules(), event.clone(), &ring).is_ok());
    // Whatever the server calls so itself.
    let ring = ring.with("one.org", &key("policy_server"));
    assert!(verify(rules(), event, &ring).is_ok());
    // It may be all that it has.
    let mut event = unsigned("x", &json!({}));
    hash_and_sign_pdu(rules(), &mut event, server, &key("policy_server")).unwrap();
    assert_eq!(names(&event), ["ed25519:policy_server"]);
    assert!(verify(rules(), event.clone(), &ring).is_ok());
    event["signatures"]["one.org"]["ed25519:policy_server"] = json!("AAAA");
    assert!(invalid(verify(rules(), event, &ring)).contains("is wrong"));
}

/// However many policy servers have signed an event, its own server's signature is found.
#[test]
fn what_others_sign_takes_no_place() {
    let mut event = signed("x", &json!({}));
    for n in 0..100 {
        event["signatures"][format!("p{n}.org")] = json!({ "ed25519:policy_server": "AAAA" });
    }
    let ring = Ring::default().with("one.org", &key("a"));
    assert!(verify(rules(), event, &ring).is_ok());
}

#[test]
fn restricted_joins_need_the_authorising_server() {
    let content = json!({"membership": "join", "join_authorised_via_users_server": "@b:two.org"});
    let mut join = signed("m.room.member", &content);
    let ring = Ring::default()
        .with("one.org", &key("a"))
        .with("two.org", &key("bb"));
    assert_eq!(servers_to_sign(rules(), &join), ["one.org", "two.org"]);
    assert!(invalid(verify(rules(), join.clone(), &ring)).contains("two.org has not signed"));
    sign_pdu(rules(), &mut join, server_name!("two.org"), &key("bb")).unwrap();
    assert!(verify(rules(), join, &ring).is_ok());
    let odd = signed(
        "m.room.member",
        &json!({"membership": "join", "join_authorised_via_users_server": "nobody"}),
    );
    assert!(invalid(verify(rules(), odd, &ring)).contains("auth 5.2"));
}

/// Versions 1 and 2: the server that chose the id signs too, whoever sent the event.
#[test]
fn the_server_of_a_chosen_id_must_sign() {
    let rules = RoomRules::named("1").unwrap();
    let ring = Ring::default()
        .with("one.org", &key("a"))
        .with("two.org", &key("bb"));
    let mut event = unsigned("x", &json!({}));
    event.insert("event_id".into(), json!("$x:two.org"));
    hash_and_sign_pdu(rules, &mut event, server_name!("one.org"), &key("a")).unwrap();
    assert_eq!(servers_to_sign(rules, &event), ["one.org", "two.org"]);
    assert!(invalid(verify(rules, event.clone(), &ring)).contains("two.org has not signed"));
    sign_pdu(rules, &mut event, server_name!("two.org"), &key("bb")).unwrap();
    assert!(verify(rules, event, &ring).is_ok());
}

/// Up to version 4 it doesn't matter when a key was valid.
#[test]
fn old_versions_take_any_key_of_the_server() {
    struct Past(KeyPair);
    impl Keys for Past {
        fn key(&self, _: &ServerName, _: &str, valid_at: i64) -> KeyLookup {
            if valid_at == 0 {
                KeyLookup::Found(self.0.public())
            } else {
                KeyLookup::Expired
            }
        }
    }
    for rules in RoomRules::supported() {
        let mut event = unsigned("x", &json!({}));
        event.insert("event_id".into(), json!("$x:one.org"));
        hash_and_sign_pdu(rules, &mut event, server_name!("one.org"), &key("a")).unwrap();
        let any = ["1", "2", "3", "4"].contains(&rules.id());
        assert_eq!(
            verify(rules, event, &Past(key("a"))).is_ok(),
            any,
            "{}",
            rules.id()
        );
    }
}

/// An invite without its sender's signature stands only as what it was: one of a third party.
#[test]
fn third_party_invites_may_come_from_elsewhere() {
    let invite = json!({"membership": "invite", "third_party_invite": {"signed": {}}});
    for rules in RoomRules::supported() {
        let explicit = rules.format.event_id == EventIdFormat::Explicit;
        let ring = Ring::default().with("two.org", &key("bb"));
        // Signed by whoever chose the id where that is a question.
        let made = |kind: &str| {
            let mut event = unsigned(kind, &invite);
            event.insert("event_id".into(), json!("$x:two.org"));
            hash_and_sign_pdu(rules, &mut event, server_name!("two.org"), &key("bb")).unwrap();
            event
        };
        let event = made("m.room.member");
        let asked = servers_to_sign(rules, &event);
        assert_eq!(asked.len(), 1 + usize::from(explicit));
        let pdu = verify(rules, event.clone(), &ring).unwrap();
        assert!(pdu.content().contains_key("third_party_invite"));
        assert!(invalid(verify(rules, made("x"), &ring)).contains("one.org has not signed"));

        let mut mangled = event;
        mangled["content"]["reason"] = json!("because");
        match verify(rules, mangled, &ring) {
            // What is kept must still say that it is such an invite.
            Ok(pdu) => assert!(pdu.content()["third_party_invite"].is_object()),
            refused => {
                assert!(!rules.redaction.keep_third_party_signed);
                assert!(invalid(refused).contains("one.org has not signed"));
            }
        }
    }
}

/// Where servers choose the ids, an event could name itself; nobody would ever be done with what it lacks.
#[test]
fn nothing_builds_on_itself() {
    let rules = RoomRules::named("1").unwrap();
    let ring = Ring::default().with("one.org", &key("a"));
    for field in ["prev_events", "auth_events"] {
        let mut event = unsigned("x", &json!({}));
        event.insert("event_id".into(), json!("$x:one.org"));
        event.insert(field.into(), json!([["$x:one.org", { "sha256": "x" }]]));
        hash_and_sign_pdu(rules, &mut event, server_name!("one.org"), &key("a")).unwrap();
        let refused = invalid(verify(rules, event, &ring));
        assert!(refused.contains("itself"), "{refused}");
    }
}

/// Who is to sign what: an invite of a third party's is anybody's to make.
#[test]
fn only_invites_of_third_parties_need_no_sender() {
    let of = |kind: &str, content: &Value| {
        let event = signed(kind, content);
        sender_must_sign(&Pdu::parse(rules(), event).unwrap())
    };
    let invite = json!({"membership": "invite", "third_party_invite": {"signed": {}}});
    assert!(!of("m.room.member", &invite));
    assert!(of("x", &invite));
    assert!(of(
        "m.room.member",
        &json!({"membership": "invite", "third_party_invite": 1})
    ));
    assert!(of(
        "m.room.member",
        &json!({"membership": "join", "third_party_invite": {}})
    ));
}

/// What an object can't hold of an event's numbers doesn't make it any longer than others may be.
#[test]
fn large_integers_excuse_no_length() {
    let rules = RoomRules::named("1").unwrap();
    for (id, kind, told) in [
        ("x".repeat(300), "x".to_owned(), "event_id"),
        ("x".into(), "x".repeat(300), "type"),
    ] {
        let event = json!({"event_id": format!("${id}:one.org"), "type": kind, "sender": "@a:one.org",
            "room_id": "!r:one.org", "content": {"n": "N"}, "depth": 1, "origin_server_ts": 1,
            "prev_events": [], "auth_events": [], "hashes": {"sha256": "AAAA"}, "signatures": {}});
        let text = event
            .to_string()
            .replace("\"N\"", "123456789012345678901234567890");
        let event = Incoming::parse(text.as_bytes()).unwrap();
        let refused = invalid(verify(rules, event, &Ring::default()));
        assert!(refused.contains(told), "{refused}");
    }
}

#[test]
fn wrong_types_in_every_field_never_panic() {
    let ring = Ring::default().with("one.org", &key("a"));
    let good = signed("m.room.member", &json!({"membership": "join"}));
    for field in good.keys().cloned().collect::<Vec<_>>() {
        for wrong in [
            json!(null),
            json!(0),
            json!([]),
            json!({}),
            json!("\u{0}"),
            json!({"one.org": 1}),
            json!({"one.org": {"ed25519:a": []}}),
            json!(1e300),
        ] {
            let mut bad = good.clone();
            bad.insert(field.clone(), wrong.clone());
            if bad == good {
                continue;
            }
            // Another content is but redacted; all else is refused.
            let result = verify(rules(), bad, &ring);
            assert!(
                result.is_err() || (field == "content" && wrong == json!({})),
                "{field} {wrong}"
            );
        }
    }
}
