//! Signing JSON, and checking such signatures.

use ed25519_dalek::{Signature, VerifyingKey};
use ruma::ServerName;
use serde_json::Value;

use super::key_pair::KeyPair;
use crate::{
    Object,
    canonical::{JsonError, Strictness, write_object},
    hash,
};

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
    write_object(&mut text, object, Strictness::Relaxed, 1, |key| {
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
    verify_json_by(object, server.as_str(), key_id, public)
}

/// [`verify_json`] of a signature that a server or a user has made.
pub fn verify_json_by(
    object: &Object,
    signer: &str,
    key_id: &str,
    public: &[u8; 32],
) -> Result<(), SignatureError> {
    let named = || format!("{signer} with {key_id}");
    let signature = object
        .get("signatures")
        .and_then(|signatures| signatures.get(signer))
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
