//! Claiming one-time keys: for clients of this server and for other servers alike.

use std::sync::{Arc, Mutex};

use ruma::OwnedDeviceId;

use crate::engine::lock;
use crate::engine::random;
use crate::engine::sql::{Columns as _, ReadRow, rows};
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

/// How many keys are claimed in one commit, which holds locks and keeps others waiting.
const AT_ONCE: usize = 1_000;

rows! {
    struct Asked<'a> {
        no: usize,
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        algorithm: &'a str,
    }
}

fn asked(wanted: &[KeyWanted]) -> Vec<Asked<'_>> {
    let wanted = wanted.iter().enumerate();
    let asked = wanted.map(|(no, one)| Asked {
        no,
        user_no: one.user,
        device_id: &one.device,
        algorithm: &one.algorithm,
    });
    asked.collect()
}

fn number(row: &ReadRow) -> Result<usize> {
    row.get("no")
}

impl Store {
    /// Claims keys, in as few commits as they fit into. Each is given once, in the order of upload, then the fallback
    /// of its device; `None` where there is neither, or no such device. The answers are in the order of `wanted`.
    pub async fn claim_keys(&self, wanted: Vec<KeyWanted>) -> Result<Vec<Option<OneTimeKey>>> {
        let mut all = Vec::with_capacity(wanted.len());
        for some in wanted.chunks(AT_ONCE) {
            let held = self.held(some).await?;
            let mut given = vec![None; some.len()];
            let wanted = held.iter().filter_map(|no| some.get(*no));
            let keys = self.claim_held(wanted.cloned().collect()).await?;
            for (no, key) in held.into_iter().zip(keys) {
                if let Some(slot) = given.get_mut(no) {
                    *slot = key;
                }
            }
            all.append(&mut given);
        }
        Ok(all)
    }

    /// Of which of these there is no one-time key that nobody has got, by their places.
    pub async fn without_one_time_keys(&self, wanted: &[KeyWanted]) -> Result<Vec<usize>> {
        let query = self
            .sql(
                "SELECT x.no FROM ROWS($1) AS x WHERE NOT EXISTS (SELECT 1 FROM one_time_key k \
                 WHERE k.user_no = x.user_no AND k.device_id = x.device_id \
                 AND k.algorithm = x.algorithm AND k.claimed = 0) ORDER BY x.no",
            )
            .rows(&asked(wanted));
        let rows = self.rows(query).await?;
        rows.iter().map(number).collect()
    }

    /// Of which of these there is a key: claims for nothing, which anybody can make up, don't get in anyone's way.
    async fn held(&self, wanted: &[KeyWanted]) -> Result<Vec<usize>> {
        let query = self
            .sql(
                "SELECT x.no FROM ROWS($1) AS x WHERE EXISTS (SELECT 1 FROM one_time_key k \
                 WHERE k.user_no = x.user_no AND k.device_id = x.device_id \
                 AND k.algorithm = x.algorithm AND k.claimed = 0) \
                 OR EXISTS (SELECT 1 FROM fallback_key f WHERE f.user_no = x.user_no \
                 AND f.device_id = x.device_id AND f.algorithm = x.algorithm) ORDER BY x.no",
            )
            .rows(&asked(wanted));
        let rows = self.rows(query).await?;
        rows.iter().map(number).collect()
    }

    async fn claim_held(&self, wanted: Vec<KeyWanted>) -> Result<Vec<Option<OneTimeKey>>> {
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
