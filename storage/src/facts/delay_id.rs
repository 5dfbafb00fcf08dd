//! The ids of delayed events.

use std::fmt;

use ring::digest::{SHA256, digest};

use crate::engine::db::hex;
use crate::{Result, TxnKey, random};

/// The id of a delayed event. Whoever knows it may send, cancel or restart the event, so it is a secret: it stands in no
/// log, and is looked up by its hash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DelayId(String);

impl DelayId {
    /// A new one, of 256 bits.
    ///
    /// # Errors
    /// As [`random::secret`].
    pub fn random() -> Result<Self> {
        random::secret().map(Self)
    }

    /// What somebody says is one.
    pub fn of(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text, for who may know it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// By what it is looked up.
    pub(crate) fn digest(&self) -> String {
        digest_of(&self.0)
    }
}

impl fmt::Debug for DelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DelayId(…)")
    }
}

/// By what a transaction is known that schedules one.
pub(super) fn txn_digest(txn: &TxnKey) -> Result<String> {
    let key = (txn.device.as_str(), &txn.path, &txn.txn_id);
    Ok(digest_of(&serde_json::to_string(&key)?))
}

/// The SHA-256 of a text, in hexadecimal digits.
fn digest_of(text: &str) -> String {
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_guess_one_or_read_it_in_a_log() {
        let (one, other) = (DelayId::random().unwrap(), DelayId::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.expose().len(), 43);
        assert_eq!(DelayId::of(one.expose()).digest(), one.digest());
        assert!(!one.digest().contains(one.expose()));
        assert_eq!(format!("{one:?}"), "DelayId(…)");
    }
}
