//! Signing JSON and events, and checking such signatures.

mod json;
mod key_pair;

use ruma::ServerName;
use serde_json::Value;

use crate::{Incoming, Object, Pdu, Rejection, RoomRules, canonical::JsonError, hash, redact};
pub use json::{SignatureError, sign_json, verify_bytes, verify_json, verify_json_by};
pub(crate) use json::{add_signature, json_text};
pub use key_pair::{KeyError, KeyPair};

/// Writes `hashes` into an event and signs its redacted form.
pub fn hash_and_sign_pdu(
    rules: &RoomRules,
    object: &mut Object,
    server: &ServerName,
    key: &KeyPair,
) -> Result<(), JsonError> {
    let hash = hash::to_base64(&hash::content_hash(rules, object)?);
    let hashes = object
        .entry("hashes")
        .or_insert_with(|| Value::Object(Object::new()));
    hashes
        .as_object_mut()
        .ok_or(JsonError::WrongType("hashes"))?
        .insert("sha256".into(), hash.into());
    sign_pdu(rules, object, server, key)
}

/// Signs the redacted form of an event whose `hashes` stand, e.g. an invite that another server made.
pub fn sign_pdu(
    rules: &RoomRules,
    object: &mut Object,
    server: &ServerName,
    key: &KeyPair,
) -> Result<(), JsonError> {
    let signature = key.sign(redact::signed_text(rules, object)?.as_bytes());
    add_signature(object, server, key, &signature)
}

/// The same event with our signature added.
pub fn countersign(pdu: &Pdu, server: &ServerName, key: &KeyPair) -> Result<Pdu, Rejection> {
    let invalid = |error: JsonError| Rejection::new("PDU format", error.to_string());
    let mut event = Incoming::parse(pdu.json().as_bytes()).map_err(invalid)?;
    let signed = redact::signed_text(pdu.rules(), &event).map_err(invalid)?;
    let signature = key.sign(event.numbers.restore(signed).as_bytes());
    add_signature(&mut event.object, server, key, &signature).map_err(invalid)?;
    Pdu::parse(pdu.rules(), event)
}

#[cfg(test)]
mod tests {
    use ruma::server_name;
    use serde_json::json;

    use super::*;

    fn key() -> KeyPair {
        KeyPair::parse("ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").unwrap()
    }

    fn object(value: Value) -> Object {
        let Value::Object(object) = value else {
            panic!("not an object")
        };
        object
    }

    /// The appendix "Cryptographic Test Vectors", JSON signing.
    #[test]
    fn appendix_json_vectors() {
        for (given, signature) in [
            (
                json!({}),
                "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ",
            ),
            (
                json!({"one": 1, "two": "Two"}),
                "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
            ),
        ] {
            let mut signed = object(given);
            sign_json(&mut signed, server_name!("domain"), &key()).unwrap();
            assert_eq!(signed["signatures"]["domain"]["ed25519:1"], signature);
            verify_json(
                &signed,
                server_name!("domain"),
                "ed25519:1",
                &key().public(),
            )
            .unwrap();
            signed.insert("unsigned".into(), json!({"x": 1}));
            verify_json(
                &signed,
                server_name!("domain"),
                "ed25519:1",
                &key().public(),
            )
            .unwrap();
            signed.insert("three".into(), json!(3));
            assert!(matches!(
                verify_json(
                    &signed,
                    server_name!("domain"),
                    "ed25519:1",
                    &key().public()
                ),
                Err(SignatureError::Wrong(_))
            ));
        }
    }

    /// The appendix "Cryptographic Test Vectors", event signing (in a version that keeps `origin`).
    #[test]
    fn appendix_event_vectors() {
        let rules = RoomRules::named("10").unwrap();
        let mut minimal = object(
            json!({"room_id": "!x:domain", "sender": "@a:domain", "origin": "domain",
            "origin_server_ts": 1_000_000, "signatures": {}, "hashes": {}, "type": "X", "content": {},
            "prev_events": [], "auth_events": [], "depth": 3, "unsigned": {"age_ts": 1_000_000}}),
        );
        hash_and_sign_pdu(rules, &mut minimal, server_name!("domain"), &key()).unwrap();
        assert_eq!(
            minimal["hashes"]["sha256"],
            "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos"
        );
        assert_eq!(
            minimal["signatures"]["domain"]["ed25519:1"],
            "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg"
        );
        assert_eq!(minimal["unsigned"], json!({"age_ts": 1_000_000}));

        let mut redactable = object(json!({"content": {"body": "Here is the message content"},
            "event_id": "$0:domain", "origin": "domain", "origin_server_ts": 1_000_000, "type": "m.room.message",
            "room_id": "!r:domain", "sender": "@u:domain", "signatures": {}, "unsigned": {"age_ts": 1_000_000}}));
        hash_and_sign_pdu(rules, &mut redactable, server_name!("domain"), &key()).unwrap();
        assert_eq!(
            redactable["hashes"]["sha256"],
            "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g"
        );
        assert_eq!(
            redactable["signatures"]["domain"]["ed25519:1"],
            "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA"
        );
    }

    #[test]
    fn key_files() {
        let key = key();
        assert_eq!(key.key_id(), "ed25519:1");
        assert_eq!(
            KeyPair::parse(&key.to_line()).unwrap().public(),
            key.public()
        );
        assert!(!format!("{key:?}").contains("YJDB"));
        for bad in [
            "",
            "ed25519 1",
            "rsa 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1",
            "ed25519 1 YJDB",
            "ed25519 1 ???",
            "ed25519 a:b YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1",
            "ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1 x",
        ] {
            assert!(KeyPair::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn malformed_signatures_are_errors() {
        let server = server_name!("domain");
        for signatures in [
            json!(1),
            json!({"domain": []}),
            json!({"domain": {}}),
            json!({"domain": {"ed25519:1": 5}}),
            json!({"domain": {"ed25519:1": "AAAA"}}),
            json!({"domain": {"ed25519:1": "\u{0}"}}),
        ] {
            let signed = object(json!({"signatures": signatures}));
            assert!(verify_json(&signed, server, "ed25519:1", &key().public()).is_err());
        }
        let mut odd = object(json!({"signatures": [1]}));
        assert_eq!(
            sign_json(&mut odd, server, &key()),
            Err(JsonError::WrongType("signatures"))
        );
        let mut odd = object(json!({"signatures": {"domain": 1}}));
        assert_eq!(
            sign_json(&mut odd, server, &key()),
            Err(JsonError::WrongType("signatures"))
        );
    }
}
