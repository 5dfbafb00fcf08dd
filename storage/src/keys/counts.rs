//! How many one-time keys a device has, which each of its `/sync` answers says: from a cache that the log keeps true.

use std::collections::BTreeMap;
use std::sync::Arc;

use ruma::{DeviceId, OwnedDeviceId};

use crate::engine::sql::Columns as _;
use crate::{Result, Store, UserNo};

/// What a device has to give out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyCounts {
    /// How many one-time keys nobody has got yet, by algorithm; of the one in use also 0.
    pub one_time: BTreeMap<String, usize>,
    /// The algorithms of fallback keys that weren't used yet.
    pub unused_fallback: Vec<String>,
}

/// Of a user's devices those that asked lately.
pub(crate) type OfDevices = Arc<[(OwnedDeviceId, Arc<KeyCounts>)]>;

/// The algorithm in use. Of it clients want to be told even that there are none: some take silence for what was said
/// before.
const IN_USE: &str = "signed_curve25519";

/// Of how many devices of a user this is remembered.
const MOST: usize = 64;

impl Store {
    /// What a device has to give out.
    pub async fn key_counts(&self, user: UserNo, device: &DeviceId) -> Result<Arc<KeyCounts>> {
        let cache = &self.core.caches.key_counts;
        let known = cache.get(&user);
        let of_it = known
            .iter()
            .flat_map(|known| known.iter())
            .find(|(which, _)| which == device);
        if let Some((_, counts)) = of_it {
            return Ok(counts.clone());
        }
        let moment = cache.moment();
        let counts = Arc::new(self.load_key_counts(user, device).await?);
        let others = cache.get(&user);
        let others = others.iter().flat_map(|others| others.iter());
        let others = others.filter(|(which, _)| which != device).take(MOST - 1);
        let new = [(device.to_owned(), counts.clone())].into_iter();
        let all: OfDevices = new.chain(others.cloned()).collect();
        let weight = all.len();
        cache.replace_since(moment, user, all, weight);
        Ok(counts)
    }

    async fn load_key_counts(&self, user: UserNo, device: &DeviceId) -> Result<KeyCounts> {
        let query = self
            .sql(
                "SELECT algorithm, COUNT(*) AS held FROM one_time_key \
                 WHERE user_no = $1 AND device_id = $2 AND claimed = 0 GROUP BY algorithm \
                 UNION ALL SELECT algorithm, CAST(-1 AS BIGINT) FROM fallback_key \
                 WHERE user_no = $1 AND device_id = $2 AND used = 0 ORDER BY 1",
            )
            .bind(user)
            .bind(device);
        let mut counts = KeyCounts {
            one_time: BTreeMap::from([(IN_USE.to_owned(), 0)]),
            unused_fallback: Vec::new(),
        };
        for row in self.rows(query).await? {
            let algorithm: String = row.get("algorithm")?;
            match row.get::<i64>("held")? {
                -1 => counts.unused_fallback.push(algorithm),
                held => {
                    let held = usize::try_from(held).unwrap_or_default();
                    counts.one_time.insert(algorithm, held);
                }
            }
        }
        Ok(counts)
    }

    /// A device of the user has got keys, or has given some out, or is gone.
    pub(crate) fn forget_key_counts(&self, user: UserNo) {
        self.core.caches.key_counts.remove(&user);
    }
}
