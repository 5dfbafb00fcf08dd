//! Claiming one-time keys: for clients of this server and for other servers alike.

use std::sync::{Arc, Mutex};

use ruma::OwnedDeviceId;

use crate::engine::lock;
use crate::engine::random;
use crate::{
    CommitError, Error, KeyClaim, OneTimeKey, OneTimeKeys, Result, Store, UserNo, WriteSet,
};

/// A key that somebody wants of a device.
#[derive(Debug, Clone)]
pub struct KeyWanted {
    /// Whose device.
    pub user: UserNo,
    /// Which.
    pub device: OwnedDeviceId,
    /// A key of which algorithm.
    pub algorithm: String,
}

impl Store {
    /// Claims keys, in one commit. Each is given once, in the order of upload, then the fallback of its
    /// device; `None` where there is neither, or no such device. The answers are in the order of `wanted`.
    pub async fn claim_keys(&self, wanted: Vec<KeyWanted>) -> Result<Vec<Option<OneTimeKey>>> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let number = (i64::from_be_bytes(random::bytes()?) & i64::MAX).max(1);
        let mut given = Vec::with_capacity(wanted.len());
        let mut facts = Vec::with_capacity(wanted.len());
        for one in wanted {
            let slot = Arc::new(Mutex::new(None));
            given.push(slot.clone());
            let claim = KeyClaim {
                user: one.user,
                device: one.device,
                algorithm: one.algorithm,
                number,
                given: slot,
            };
            facts.push(OneTimeKeys::Claim(claim).into());
        }
        match self.commit(WriteSet::from(facts)).await {
            Ok(_) => Ok(given.iter().map(|slot| lock(slot).take()).collect()),
            Err(CommitError::Store(error)) => Err(error),
            Err(other) => Err(Error::broken(other.to_string())),
        }
    }
}
