//! Who says what has reached their devices (docs/delivery.md). They are few, so all of them are kept in memory: for
//! everybody else nothing is asked.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use crate::engine::sql::Columns as _;
use crate::facts::account_data::AccountData;
use crate::{Result, Store, UserNo};

/// The account data by which a user says so.
pub const DELIVERY: &str = "org.rhizome.delivery";

/// What is in memory, and how often it has become stale: what was read before that isn't kept.
#[derive(Debug, Default)]
pub(crate) struct KnownDelivery {
    loaded: Option<Arc<HashSet<UserNo>>>,
    stale: u64,
}

#[derive(Deserialize)]
struct Wish {
    enabled: bool,
}

impl Store {
    /// Whether a user says what has reached their devices.
    pub async fn tells_delivery(&self, user: UserNo) -> Result<bool> {
        let stale = {
            let known = self.known_delivery();
            if let Some(loaded) = &known.loaded {
                return Ok(loaded.contains(&user));
            }
            known.stale
        };
        // Not bound, so that the index is found.
        let query = self.sql(
            "SELECT user_no, content FROM account_data \
             WHERE kind = 'org.rhizome.delivery' AND room = 0",
        );
        let mut users = HashSet::new();
        for row in self.rows(query).await? {
            let content: String = row.get("content")?;
            if serde_json::from_str::<Wish>(&content).is_ok_and(|wish| wish.enabled) {
                users.insert(row.get("user_no")?);
            }
        }
        let tells = users.contains(&user);
        let mut known = self.known_delivery();
        if known.stale == stale {
            known.loaded = Some(Arc::new(users));
        }
        Ok(tells)
    }

    /// Account data changes: perhaps this.
    pub(crate) fn forget_delivery(&self, data: &AccountData) {
        if data.kind == DELIVERY && data.room.is_none() {
            let mut known = self.known_delivery();
            known.loaded = None;
            known.stale += 1;
        }
    }

    fn known_delivery(&self) -> std::sync::MutexGuard<'_, KnownDelivery> {
        let known: &Mutex<KnownDelivery> = &self.core.caches.delivery;
        known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
