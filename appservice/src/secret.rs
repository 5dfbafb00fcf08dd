//! Tokens. None of these can be printed.

use ring::digest;

/// What we show a service so that it knows us.
#[derive(Clone)]
pub struct HsToken(String);

impl HsToken {
    pub(crate) fn new(token: String) -> Self {
        Self(token)
    }

    /// The token itself. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The SHA-256 of what a service shows us. What comes is compared by its hash, so that the time of a comparison says
/// nothing of the token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash([u8; digest::SHA256_OUTPUT_LEN]);

impl TokenHash {
    pub(crate) fn of(token: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest.as_ref());
        Self(hash)
    }
}
