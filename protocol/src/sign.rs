//! Signing JSON and events, and checking such signatures.

use ruma::ServerName;

use crate::{Object, Pdu, Rejection, RoomRules, canonical::JsonError};

/// An ed25519 signing key with its version, e.g. `a_x` for the key id `ed25519:a_x`.
#[derive(Clone)]
pub struct KeyPair {
    key_id: String,
    key: ed25519_dalek::SigningKey,
}

/// A key file's line, a version or a seed that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad signing key: {0}")]
pub struct KeyError(pub String);

/// Why a signature doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The object bears no signature of this server with this key.
    #[error("no signature of {0}")]
    Missing(String),
    /// The signature, or the key, isn't in its proper form.
    #[error("malformed signature or key: {0}")]
    Malformed(String),
    /// The signature is not by this key over this object.
    #[error("the signature of {0} is wrong")]
    Wrong(String),
    /// The object has no canonical form.
    #[error(transparent)]
    Json(#[from] JsonError),
}

impl KeyPair {
    /// A key from 32 secret random bytes. `version` is of `[a-zA-Z0-9_]+`.
    pub fn from_seed(_version: &str, _seed: &[u8; 32]) -> Result<Self, KeyError> {
        unimplemented!()
    }
    /// Reads `ed25519 <version> <unpadded base64 seed>`, the line of a key file.
    pub fn parse(_line: &str) -> Result<Self, KeyError> {
        unimplemented!()
    }
    /// The line of a key file: secret.
    pub fn to_line(&self) -> String {
        unimplemented!()
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
        unimplemented!()
    }
    /// The signature over `message`.
    pub fn sign(&self, _message: &[u8]) -> [u8; 64] {
        unimplemented!()
    }
}

/// Signs `object` (without `signatures` and `unsigned`) and adds the signature to `signatures`.
pub fn sign_json(
    _object: &mut Object,
    _server: &ServerName,
    _key: &KeyPair,
) -> Result<(), JsonError> {
    unimplemented!()
}

/// Checks the signature that `server` made with `key_id`, whose public key is `public`.
pub fn verify_json(
    _object: &Object,
    _server: &ServerName,
    _key_id: &str,
    _public: &[u8; 32],
) -> Result<(), SignatureError> {
    unimplemented!()
}

/// Writes `hashes` into an event and signs its redacted form.
pub fn hash_and_sign_pdu(
    _rules: &RoomRules,
    _object: &mut Object,
    _server: &ServerName,
    _key: &KeyPair,
) -> Result<(), JsonError> {
    unimplemented!()
}

/// Signs the redacted form of an event whose `hashes` stand, e.g. an invite that another server made.
pub fn sign_pdu(
    _rules: &RoomRules,
    _object: &mut Object,
    _server: &ServerName,
    _key: &KeyPair,
) -> Result<(), JsonError> {
    unimplemented!()
}

/// The same event with our signature added.
pub fn countersign(_pdu: &Pdu, _server: &ServerName, _key: &KeyPair) -> Result<Pdu, Rejection> {
    unimplemented!()
}
