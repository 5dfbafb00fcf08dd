//! The keys that a server publishes at `/_matrix/key/v2/server`.

use std::collections::BTreeMap;

use ruma::{OwnedServerName, ServerName};
use serde_json::{Value, json};

use crate::{
    Object,
    canonical::JsonError,
    hash,
    sign::{KeyPair, SignatureError, sign_json, verify_json},
};

/// How many keys, in use or old, one answer may have.
const MAX_KEYS: usize = 100;

/// A server's published keys, their self-signature verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerKeys {
    /// Whose keys.
    pub server_name: OwnedServerName,
    /// Until when `verify_keys` may be used, in milliseconds since 1970.
    pub valid_until_ts: i64,
    /// Keys in use, by key id.
    pub verify_keys: BTreeMap<String, [u8; 32]>,
    /// Keys out of use, by key id, and when they expired in milliseconds since 1970.
    pub old_verify_keys: BTreeMap<String, ([u8; 32], i64)>,
}

/// Our own answer: `keys` are in use and sign it, `old` are `(key id, public key, expired_ts)`.
pub fn build(
    server: &ServerName,
    keys: &[&KeyPair],
    old: &[(String, [u8; 32], i64)],
    valid_until_ts: i64,
) -> Result<Object, JsonError> {
    let verify_keys: Object = keys
        .iter()
        .map(|key| {
            (
                key.key_id().to_owned(),
                json!({ "key": key.public_base64() }),
            )
        })
        .collect();
    let old_verify_keys: Object = old
        .iter()
        .map(|(id, key, expired)| {
            (
                id.clone(),
                json!({ "key": hash::to_base64(key), "expired_ts": expired }),
            )
        })
        .collect();
    let mut object = Object::new();
    object.insert("server_name".into(), server.as_str().into());
    object.insert("valid_until_ts".into(), valid_until_ts.into());
    object.insert("verify_keys".into(), verify_keys.into());
    object.insert("old_verify_keys".into(), old_verify_keys.into());
    for key in keys {
        sign_json(&mut object, server, key)?;
    }
    Ok(object)
}

/// Reads another server's answer (also one that a notary passed on): it must be `server`'s and bear
/// its own signature with at least one key in use; keys that it doesn't sign with are left out, and so
/// are keys of unknown algorithms. A wrong signature by a key in use is an error.
pub fn verify(object: &Object, server: &ServerName) -> Result<ServerKeys, SignatureError> {
    let malformed = |what: &str| SignatureError::Malformed(what.to_owned());
    if object.get("server_name").and_then(Value::as_str) != Some(server.as_str()) {
        return Err(malformed(
            "`server_name` isn't the server that was asked for",
        ));
    }
    let valid_until_ts = object
        .get("valid_until_ts")
        .and_then(Value::as_i64)
        .ok_or_else(|| malformed("`valid_until_ts` must be an integer"))?;

    let mut verify_keys = BTreeMap::new();
    for (id, key) in ed25519_keys(object, "verify_keys")? {
        let public = public_key(key).ok_or_else(|| malformed("a key in `verify_keys`"))?;
        match verify_json(object, server, id, &public) {
            Ok(()) => verify_keys.insert(id.clone(), public),
            Err(SignatureError::Missing(_)) => None,
            Err(error) => return Err(error),
        };
    }
    if verify_keys.is_empty() {
        return Err(SignatureError::Missing(format!(
            "{server} with a key in use"
        )));
    }

    let mut old_verify_keys = BTreeMap::new();
    for (id, key) in ed25519_keys(object, "old_verify_keys")? {
        let expired = key.get("expired_ts").and_then(Value::as_i64);
        if let (Some(public), Some(expired)) = (public_key(key), expired) {
            old_verify_keys.insert(id.clone(), (public, expired));
        }
    }
    Ok(ServerKeys {
        server_name: server.to_owned(),
        valid_until_ts,
        verify_keys,
        old_verify_keys,
    })
}

fn ed25519_keys<'a>(
    object: &'a Object,
    field: &str,
) -> Result<impl Iterator<Item = (&'a String, &'a Value)>, SignatureError> {
    let keys = match object.get(field) {
        Some(Value::Object(keys)) if keys.len() <= MAX_KEYS => Some(keys),
        None if field == "old_verify_keys" => None,
        _ => {
            return Err(SignatureError::Malformed(format!(
                "`{field}` must be an object of at most {MAX_KEYS} keys"
            )));
        }
    };
    Ok(keys
        .into_iter()
        .flatten()
        .filter(|(id, _)| id.starts_with("ed25519:")))
}

fn public_key(key: &Value) -> Option<[u8; 32]> {
    hash::from_base64_exact(key.get("key")?.as_str()?)
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn there_and_back() {
        let (a, b) = (
            KeyPair::from_seed("a", &[1; 32]).unwrap(),
            KeyPair::from_seed("b", &[2; 32]).unwrap(),
        );
        let server = server_name!("example.org");
        let old = [("ed25519:0".to_owned(), [7; 32], 12_345)];
        let answer = build(server, &[&a, &b], &old, 99_999).unwrap();
        let keys = verify(&answer, server).unwrap();
        assert_eq!(keys.valid_until_ts, 99_999);
        assert_eq!(
            keys.verify_keys.keys().collect::<Vec<_>>(),
            ["ed25519:a", "ed25519:b"]
        );
        assert_eq!(keys.old_verify_keys["ed25519:0"], ([7; 32], 12_345));
        assert!(verify(&answer, server_name!("evil.org")).is_err());

        let mut forged = answer.clone();
        forged.insert("valid_until_ts".into(), 100_000.into());
        assert!(matches!(
            verify(&forged, server),
            Err(SignatureError::Wrong(_))
        ));

        let mut unsigned_key = answer.clone();
        unsigned_key["signatures"]["example.org"]
            .as_object_mut()
            .unwrap()
            .remove("ed25519:b");
        assert_eq!(verify(&unsigned_key, server).unwrap().verify_keys.len(), 1);
        unsigned_key.remove("signatures");
        assert!(matches!(
            verify(&unsigned_key, server),
            Err(SignatureError::Missing(_))
        ));
    }

    #[test]
    fn hostile_answers_are_errors() {
        let server = server_name!("example.org");
        let key = KeyPair::from_seed("a", &[1; 32]).unwrap();
        let good = build(server, &[&key], &[], 1).unwrap();
        for field in [
            "server_name",
            "valid_until_ts",
            "verify_keys",
            "old_verify_keys",
            "signatures",
        ] {
            for wrong in [
                json!(null),
                json!("x"),
                json!([]),
                json!({"ed25519:a": 1}),
                json!({"example.org": {"ed25519:a": 1}}),
                json!(1.5),
            ] {
                let mut bad = good.clone();
                bad.insert(field.into(), wrong);
                let _ = verify(&bad, server).unwrap_err();
            }
        }
    }
}
