//! The keys that servers sign with.

use ed25519_dalek::{Signer as _, SigningKey};

use crate::hash;

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
