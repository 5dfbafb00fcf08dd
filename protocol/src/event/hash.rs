//! Content hash and reference hash.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ring::digest;

use crate::{
    Object, RoomRules,
    canonical::{JsonError, write_object},
    redact,
};

/// Unpadded to write; what is read may have padding and stray bits at the end, as other servers allow.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A reference hash: what an event's id is made of, or in v1 and v2 what stands beside it.
pub type ReferenceHash = [u8; 32];

/// Unpadded base64.
pub fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Unpadded URL-safe base64.
pub fn to_url_base64(bytes: &[u8]) -> String {
    URL_SAFE.encode(bytes)
}

/// Reads base64 with or without padding; `None` if it is none.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Reads base64 of exactly `N` bytes.
pub(crate) fn from_base64_exact<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Longer text can't be it, so it isn't worth decoding.
    if text.len() > N * 2 {
        return None;
    }
    from_base64(text)?.try_into().ok()
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// The content hash that an event names.
pub(crate) fn claimed(object: &Object) -> Option<Vec<u8>> {
    let hash = object.get("hashes")?.get("sha256")?.as_str()?;
    from_base64(hash)
}

/// SHA-256 over the canonical event without `unsigned`, `signatures`, `hashes` (server-server
/// "Calculating the content hash for an event").
pub fn content_hash(rules: &RoomRules, object: &Object) -> Result<[u8; 32], JsonError> {
    Ok(sha256(hashed_text(rules, object)?.as_bytes()))
}

/// The text that [`content_hash`] is of.
pub(crate) fn hashed_text(rules: &RoomRules, object: &Object) -> Result<String, JsonError> {
    let mut text = String::with_capacity(512);
    write_object(&mut text, object, rules.strictness(), 1, |key| {
        !matches!(key, "unsigned" | "signatures" | "hashes")
    })?;
    Ok(text)
}

/// SHA-256 over the redacted canonical event without `signatures` and `unsigned` (server-server
/// "Calculating the reference hash for an event").
pub fn reference_hash(rules: &RoomRules, object: &Object) -> Result<ReferenceHash, JsonError> {
    Ok(sha256(redact::signed_text(rules, object)?.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_appendix() {
        for (given, expected) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(to_base64(given.as_bytes()), expected);
            assert_eq!(from_base64(expected).unwrap(), given.as_bytes());
        }
        assert_eq!(from_base64("Zg==").unwrap(), b"f");
        assert_eq!(from_base64("Z"), None);
        assert_eq!(from_base64_exact::<2>("Zg"), None);
    }
}
