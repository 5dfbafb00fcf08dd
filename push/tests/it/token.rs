//! Reads and verifies signed tokens as those do who get them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{UnparsedPublicKey, VerificationAlgorithm};
use serde_json::Value;

pub fn decoded(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// Header and claims of a token with a genuine signature.
pub fn verified(
    token: &str,
    algorithm: &'static dyn VerificationAlgorithm,
    public: &[u8],
) -> Option<(Value, Value)> {
    let (text, signature) = token.rsplit_once('.')?;
    UnparsedPublicKey::new(algorithm, public)
        .verify(text.as_bytes(), &decoded(signature))
        .ok()?;
    let (header, claims) = text.split_once('.')?;
    let json = |part| serde_json::from_slice(&decoded(part)).ok();
    Some((json(header)?, json(claims)?))
}
