//! The checks on a received PDU that need no room (server-server "Checks performed on receipt of a PDU", 1–3).

use ruma::{EventId, OwnedEventId, OwnedServerName, ServerName, UserId};
use serde_json::Value;

use crate::{
    Incoming, Membership, Object, Pdu, Rejection, RoomRules,
    content::text,
    event::pdu::{Limits, format_error, json_error},
    hash, redact,
    rules::EventIdFormat,
    sign,
};

/// How many of one server's signatures on one event are looked at.
const MAX_SIGNATURES: usize = 16;

/// The keys of other servers that are at hand.
pub trait Keys {
    /// The key `key_id` of `server` for an event made at `valid_at_ms` (milliseconds since 1970).
    ///
    /// A key counts as valid up to the lesser of its `valid_until_ts` and 7 days after it was fetched. For
    /// events of room versions 1 to 4, which any key of their server may have signed, the time is 0.
    fn key(&self, server: &ServerName, key_id: &str, valid_at_ms: i64) -> KeyLookup;
}

/// What [`Keys`] knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLookup {
    /// The public key, valid at the time asked about.
    Found([u8; 32]),
    /// Not at hand, or at hand but perhaps renewed since: fetch it and ask again.
    Unknown,
    /// Known not to be valid at that time, or not to be had even by fetching.
    Expired,
}

/// Why there is no [`Pdu`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The event is invalid: drop it.
    Invalid(Rejection),
    /// Fetch these keys `(server, key id)` and ask again; answer [`KeyLookup::Expired`] for what can't be had.
    NeedKeys(Vec<(OwnedServerName, String)>),
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self::Invalid(rejection)
    }
}

/// Checks format (1), signatures (2) and content hash (3). An event whose content hash differs comes back redacted.
pub fn verify(
    rules: &'static RoomRules,
    event: impl Into<Incoming>,
    keys: &impl Keys,
) -> Result<Pdu, Refusal> {
    let mut event: Incoming = event.into();
    event.object.remove("unsigned");
    // The text before anything else is known is bounded by what the transport let through.
    let signed = redact::signed_text(rules, &event).map_err(json_error)?;
    let signed = event.numbers.restore(signed);
    // Taking the event apart moves its content, so its hash is taken first.
    let hashed = hash::hashed_text(rules, &event).map_err(json_error)?;
    let content_hash = hash::sha256(event.numbers.restore(hashed).as_bytes());
    let claimed_hash = hash::claimed(&event)
        .ok_or_else(|| format_error("`hashes` must hold `sha256` in base64"))?;
    let signatures = event.get("signatures").cloned();

    // 1. The format.
    let pdu = Pdu::assemble(rules, event, Limits::of_strangers(rules), Some(&signed))?;
    check_authoriser(&pdu)?;

    // 3. The content hash. It goes first: whose signatures are needed depends on what is kept of the event.
    let pdu = if claimed_hash == content_hash {
        pdu
    } else {
        pdu.redacted()
    };

    // 2. The signatures.
    let mut needed = Vec::new();
    for server in must_sign(&pdu) {
        check_signatures(
            &pdu,
            &server,
            signatures.as_ref(),
            &signed,
            keys,
            &mut needed,
        )?;
    }
    if !needed.is_empty() {
        return Err(Refusal::NeedKeys(needed));
    }
    Ok(pdu)
}

/// The servers whose signatures an event needs, as it is kept: the sender's (unless it is an invite that
/// comes of a third-party invite), that of `join_authorised_via_users_server` (auth rule 5.2), and in v1 and
/// v2 the event id's.
fn must_sign(pdu: &Pdu) -> Vec<OwnedServerName> {
    let content = pdu.content();
    let is_member = pdu.kind() == "m.room.member";
    // What makes auth rule 5.4.1 ask for the signature of the third party instead.
    let third_party = is_member
        && pdu.membership() == Some(Membership::Invite)
        && content
            .get("third_party_invite")
            .is_some_and(Value::is_object);
    let sender = (!third_party).then(|| pdu.sender().server_name().to_owned());
    let authoriser = (is_member && pdu.rules().auth.restricted)
        .then(|| text(content, "join_authorised_via_users_server").and_then(server_of));
    let explicit = pdu.rules().format.event_id == EventIdFormat::Explicit;
    let of_id = explicit.then(|| pdu.event_id().server_name().map(ToOwned::to_owned));
    each_once([sender, authoriser.flatten(), of_id.flatten()])
}

/// The servers whose signatures an event may need, so that their keys can be fetched: whether it needs the
/// sender's can't be told before its hash is known. Names that aren't valid are left out; [`verify`] refuses such
/// events.
pub fn servers_to_sign(rules: &RoomRules, event: &Object) -> Vec<OwnedServerName> {
    let sender = text(event, "sender").and_then(server_of);
    let content = event.get("content").and_then(Value::as_object);
    let authoriser = content
        .filter(|_| rules.auth.restricted && text(event, "type") == Some("m.room.member"))
        .and_then(|content| text(content, "join_authorised_via_users_server"));
    let of_id = text(event, "event_id")
        .filter(|_| rules.format.event_id == EventIdFormat::Explicit)
        .and_then(|id| EventId::parse(id).ok())
        .and_then(|id| id.server_name().map(ToOwned::to_owned));
    each_once([sender, authoriser.and_then(server_of), of_id])
}

fn each_once(servers: [Option<OwnedServerName>; 3]) -> Vec<OwnedServerName> {
    let mut once = Vec::with_capacity(2);
    for server in servers.into_iter().flatten() {
        if !once.contains(&server) {
            once.push(server);
        }
    }
    once
}

/// The id that an event has, whatever else is wrong with it: for naming what was refused.
pub fn event_id(rules: &RoomRules, event: &Incoming) -> Option<OwnedEventId> {
    let signed = redact::signed_text(rules, event).ok()?;
    crate::event::pdu::event_id(rules, event, &event.numbers.restore(signed)).ok()
}

/// The time at which the keys that signed an event made at `origin_server_ts` must have been valid: any
/// time will do up to v4 (v5 "Signing key validity period").
pub fn keys_valid_at(rules: &RoomRules, origin_server_ts: i64) -> i64 {
    if rules.format.key_validity {
        origin_server_ts
    } else {
        0
    }
}

fn server_of(user: &str) -> Option<OwnedServerName> {
    UserId::parse(user)
        .ok()
        .map(|user| user.server_name().to_owned())
}

/// Auth rule 5.2 demands a signature of the server of a user id, so it must be one.
fn check_authoriser(pdu: &Pdu) -> Result<(), Rejection> {
    if !pdu.rules().auth.restricted || pdu.kind() != "m.room.member" {
        return Ok(());
    }
    match pdu.content().get("join_authorised_via_users_server") {
        Some(value) if value.as_str().and_then(server_of).is_none() => Err(Rejection::new(
            "auth 5.2",
            "`join_authorised_via_users_server` must be a user id",
        )),
        _ => Ok(()),
    }
}

/// Whether `server` signed the event: all of its signatures with known valid keys hold, and there is one.
fn check_signatures(
    pdu: &Pdu,
    server: &ServerName,
    signatures: Option<&Value>,
    signed: &str,
    keys: &impl Keys,
    needed: &mut Vec<(OwnedServerName, String)>,
) -> Result<(), Rejection> {
    const RULE: &str = "PDU signatures";
    let signatures = signatures
        .and_then(|all| all.get(server.as_str()))
        .and_then(Value::as_object);
    let mut valid = false;
    let mut unknown = Vec::new();
    let ed25519 = signatures
        .into_iter()
        .flatten()
        .filter(|(id, _)| id.starts_with("ed25519:"));
    let valid_at = keys_valid_at(pdu.rules(), pdu.origin_server_ts());
    for (key_id, signature) in ed25519.take(MAX_SIGNATURES) {
        match keys.key(server, key_id, valid_at) {
            KeyLookup::Found(public) => {
                let signature = signature.as_str().and_then(hash::from_base64_exact);
                if !signature.is_some_and(|signature| {
                    sign::verify_bytes(&public, signed.as_bytes(), &signature)
                }) {
                    return Err(Rejection::new(
                        RULE,
                        format!("the signature of {server} with {key_id} is wrong"),
                    ));
                }
                valid = true;
            }
            KeyLookup::Unknown => unknown.push((server.to_owned(), key_id.clone())),
            KeyLookup::Expired => {}
        }
    }
    if !valid && unknown.is_empty() {
        return Err(Rejection::new(
            RULE,
            format!("{server} has not signed the event with a valid key"),
        ));
    }
    if !valid {
        needed.append(&mut unknown);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use ruma::server_name;
    use serde_json::json;

    use super::*;
    use crate::{
        canonical::parse_object,
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
            Err(Refusal::Invalid(rejection)) => rejection.to_string(),
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
            invalid(verify(rules(), event, &ring.with("one.org", &key("zzz"))))
                .contains("is wrong")
        );
    }

    #[test]
    fn restricted_joins_need_the_authorising_server() {
        let content =
            json!({"membership": "join", "join_authorised_via_users_server": "@b:two.org"});
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
}
