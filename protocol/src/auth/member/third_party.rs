//! Rule 5.4.1: invites that come of a third-party invite.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Transition;
use crate::{
    Membership, Object, Rejection,
    auth::{StateView, allow_if, deny, selection::third_party_token},
    content::text,
    hash, sign,
};

/// How many signatures by how many keys one third-party invite may make us verify.
const MAX_THIRD_PARTY_KEYS: usize = 32;

impl<S: StateView + ?Sized> Transition<'_, S> {
    /// 5.4.1. Invites that come of a third-party invite.
    pub(super) fn third_party_invite(&self, invite: &Value) -> Result<(), Rejection> {
        // 5.4.1.1. Not of somebody who is banned.
        if self.target_membership() == Some(Membership::Ban) {
            return deny("auth 5.4.1.1", format!("{} is banned", self.target));
        }
        // 5.4.1.2. It is signed,
        let Some(Value::Object(signed)) = invite.get("signed") else {
            return deny("auth 5.4.1.2", "the third-party invite has no `signed`");
        };
        // 5.4.1.3. with `mxid` and `token`,
        let (Some(mxid), Some(token)) = (
            text(signed, "mxid"),
            third_party_token(self.event.content()),
        ) else {
            return deny(
                "auth 5.4.1.3",
                "the third-party invite lacks `mxid` or `token`",
            );
        };
        // 5.4.1.4. for the target,
        if mxid != self.target {
            return deny(
                "auth 5.4.1.4",
                "the third-party invite is for somebody else",
            );
        }
        // 5.4.1.5. known to the room,
        let Some(known) = self.state.get("m.room.third_party_invite", token) else {
            return deny(
                "auth 5.4.1.5",
                "the room knows no third-party invite with this token",
            );
        };
        // 5.4.1.6. by the same sender,
        if known.sender() != self.event.sender() {
            return deny("auth 5.4.1.6", "somebody else made the third-party invite");
        }
        // 5.4.1.7. and one of its signatures is by one of the room's keys for it.
        allow_if(
            signed_by_any(signed, known.content()),
            "auth 5.4.1.8",
            || "the third-party invite is not signed by a key that the room knows".into(),
        )
    }
}

/// Whether any signature in `signed` is by any key of the third-party invite with content `known`.
fn signed_by_any(signed: &Object, known: &Object) -> bool {
    let keys: BTreeSet<[u8; 32]> = keys_of(known)
        .filter_map(|(key, _)| decoded(key))
        .take(MAX_THIRD_PARTY_KEYS)
        .collect();
    let Ok(text) = sign::json_text(signed) else {
        return false;
    };
    signatures_of(signed).any(|signature| {
        keys.iter()
            .any(|key| sign::verify_bytes(key, text.as_bytes(), &signature))
    })
}

/// Of the keys that a third-party invite with content `known` has those by which `signed` is signed, as they are written
/// there, each with the address where it is said whether it is still valid.
pub fn signing_keys<'a>(signed: &Object, known: &'a Object) -> Vec<(&'a str, Option<&'a str>)> {
    let Ok(text) = sign::json_text(signed) else {
        return Vec::new();
    };
    let signatures: Vec<_> = signatures_of(signed).collect();
    let signs = |key: &[u8; 32]| {
        let mut signatures = signatures.iter();
        signatures.any(|signature| sign::verify_bytes(key, text.as_bytes(), signature))
    };
    keys_of(known)
        .take(MAX_THIRD_PARTY_KEYS)
        .filter(|(key, _)| decoded(key).as_ref().is_some_and(signs))
        .collect()
}

/// The keys of a third-party invite, and where their validity is told.
fn keys_of(known: &Object) -> impl Iterator<Item = (&str, Option<&str>)> {
    let listed = known.get("public_keys").and_then(Value::as_array);
    let listed = listed.into_iter().flatten().filter_map(Value::as_object);
    std::iter::once(known).chain(listed).filter_map(|object| {
        let key = object.get("public_key")?.as_str()?;
        Some((key, text(object, "key_validity_url")))
    })
}

/// Identity servers have been seen to publish keys in either alphabet.
fn decoded(key: &str) -> Option<[u8; 32]> {
    hash::from_base64_exact(&key.replace('-', "+").replace('_', "/"))
}

fn signatures_of(signed: &Object) -> impl Iterator<Item = [u8; 64]> {
    let signatures = signed.get("signatures").and_then(Value::as_object);
    signatures
        .into_iter()
        .flat_map(Object::values)
        .filter_map(Value::as_object)
        .flatten()
        .filter(|(id, _)| id.starts_with("ed25519:"))
        .filter_map(|(_, signature)| hash::from_base64_exact(signature.as_str()?))
        .take(MAX_THIRD_PARTY_KEYS)
}

#[cfg(test)]
mod tests {
    use ruma::server_name;
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Object {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn keys_are_told_that_sign_and_no_others() {
        let key = |seed| sign::KeyPair::from_seed("0", &[seed; 32]).unwrap();
        let (first, second, other) = (key(1), key(2), key(3));
        let mut signed = object(&json!({ "mxid": "@bob:b.example", "token": "t" }));
        let server = server_name!("id.example");
        sign::sign_json(&mut signed, server, &second).unwrap();
        let urlsafe = second.public_base64().replace('+', "-").replace('/', "_");
        let known = object(&json!({
            "public_key": first.public_base64(),
            "key_validity_url": "https://id.example/first",
            "public_keys": [
                { "public_key": other.public_base64(), "key_validity_url": "https://id.example/other" },
                { "public_key": urlsafe, "key_validity_url": "https://id.example/second" },
                { "public_key": second.public_base64() },
                { "public_key": 1 },
                "nothing",
            ],
        }));
        let told = signing_keys(&signed, &known);
        let second = second.public_base64();
        assert_eq!(
            told,
            [
                (&*urlsafe, Some("https://id.example/second")),
                (&*second, None)
            ]
        );
        assert!(signed_by_any(&signed, &known));
        signed.insert("mxid".to_owned(), "@eve:b.example".into());
        assert!(signing_keys(&signed, &known).is_empty());
        assert!(!signed_by_any(&signed, &known));
        assert!(signing_keys(&Object::new(), &known).is_empty());
    }
}
