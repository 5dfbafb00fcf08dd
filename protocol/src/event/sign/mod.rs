//! Signing JSON and events, and checking such signatures.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use ruma::ServerName;
use serde_json::Value;

use crate::{
    Incoming, Object, Pdu, Rejection, RoomRules,
    canonical::{JsonError, Numbers, write_object},
    hash, redact,
};

/// An ed25519 signing key with its version, e.g. `a_x` for the key id `ed25519:a_x`.
#[derive(Clone)]
pub struct KeyPair {
    key_id: String,
    key: SigningKey,
}

/// A key file's line, a version or a seed that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad signing key: {0}")]
pub struct KeyError(pub &'static str);

/// Why a signature doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The object bears no signature of this server with this key.
    #[error("no signature of {0}")]
    Missing(String),
    /// The object, the signature or the key isn't in its proper form.
    #[error("malformed: {0}")]
    Malformed(String),
    /// The signature is not by this key over this object.
    #[error("the signature of {0} is wrong")]
    Wrong(String),
    /// The object has no canonical form.
    #[error(transparent)]
    Json(#[from] JsonError),
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl KeyPair {
    /// A key from 32 secret random bytes. `version` is of `[a-zA-Z0-9_]+`.
    pub fn from_seed(version: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let proper = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if version.is_empty() || version.len() > 200 || !version.chars().all(proper) {
            return Err(KeyError(
                "the version must be letters, digits and underscores",
            ));
        }
        Ok(Self {
            key_id: format!("ed25519:{version}"),
            key: SigningKey::from_bytes(seed),
        })
    }

    /// Reads `ed25519 <version> <base64 seed>`, the line of a key file (Synapse's form).
    pub fn parse(line: &str) -> Result<Self, KeyError> {
        let mut words = line.split_whitespace();
        let (Some("ed25519"), Some(version), Some(seed), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(KeyError("expected `ed25519 <version> <seed>`"));
        };
        let seed =
            hash::from_base64_exact(seed).ok_or(KeyError("the seed must be 32 bytes in base64"))?;
        Self::from_seed(version, &seed)
    }

    /// The line of a key file, without a line break. It holds the secret.
    pub fn to_line(&self) -> String {
        let version = self.key_id.strip_prefix("ed25519:").unwrap_or(&self.key_id);
        format!("ed25519 {version} {}", hash::to_base64(self.key.as_bytes()))
    }

    /// The key id, e.g. `ed25519:a_x`.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The public key in unpadded base64.
    pub fn public_base64(&self) -> String {
        hash::to_base64(&self.public())
    }

    /// The signature over `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

/// Whether `signature` is `public`'s over `message`. Keys and signatures of small order don't count.
pub fn verify_bytes(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public).is_ok_and(|key| {
        key.verify_strict(message, &Signature::from_bytes(signature))
            .is_ok()
    })
}

/// The text that a signature of JSON is over: canonical, without `signatures` and `unsigned`.
pub(crate) fn json_text(object: &Object) -> Result<String, JsonError> {
    let mut text = String::with_capacity(512);
    write_object(&mut text, object, Numbers::Relaxed, 1, |key| {
        key != "signatures" && key != "unsigned"
    })?;
    Ok(text)
}

/// Signs `object` (without `signatures` and `unsigned`) and adds the signature to `signatures`.
pub fn sign_json(object: &mut Object, server: &ServerName, key: &KeyPair) -> Result<(), JsonError> {
    let signature = key.sign(json_text(object)?.as_bytes());
    add_signature(object, server, key, &signature)
}

/// Checks the signature that `server` made with `key_id`, whose public key is `public`.
pub fn verify_json(
    object: &Object,
    server: &ServerName,
    key_id: &str,
    public: &[u8; 32],
) -> Result<(), SignatureError> {
    let named = || format!("{server} with {key_id}");
    let signature = object
        .get("signatures")
        .and_then(|signatures| signatures.get(server.as_str()))
        .and_then(|signatures| signatures.get(key_id))
        .ok_or_else(|| SignatureError::Missing(named()))?;
    let signature = signature
        .as_str()
        .and_then(hash::from_base64_exact)
        .ok_or_else(|| SignatureError::Malformed(format!("the signature of {}", named())))?;
    if verify_bytes(public, json_text(object)?.as_bytes(), &signature) {
        Ok(())
    } else {
        Err(SignatureError::Wrong(named()))
    }
}

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

pub(crate) fn add_signature(
    object: &mut Object,
    server: &ServerName,
    key: &KeyPair,
    signature: &[u8; 64],
) -> Result<(), JsonError> {
    let empty = || Value::Object(Object::new());
    let signatures = object.entry("signatures").or_insert_with(empty);
    let signatures = signatures
        .as_object_mut()
        .ok_or(JsonError::WrongType("signatures"))?;
    let ours = signatures.entry(server.as_str()).or_insert_with(empty);
    let ours = ours
        .as_object_mut()
        .ok_or(JsonError::WrongType("signatures"))?;
    ours.insert(key.key_id().to_owned(), hash::to_base64(signature).into());
    Ok(())
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
