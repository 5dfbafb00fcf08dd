//! Application services: asking them (application service API, "Querying"). Transactions are made and sent by
//! `rhizome_client_api`.
//!
//! Before a local alias or user counts as unknown, the services in whose namespaces it is are asked, and may make it
//! while we wait. That one doesn't answer is no "no": whoever asked us is told that it took too long, and nothing is
//! remembered. A "no" is remembered for moments only, so that nobody makes us ask the same all the time.

mod ask;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rhizome_appservice::AppserviceClient;
use rhizome_storage::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::ask::{alias, user};
use crate::devices::proxied::Unasked;
use crate::keyed::Keyed;

/// So much is asked of one service at a time: one that is slow keeps nobody from asking the others.
const AT_ONCE: usize = 32;
/// So many times that a service said no are remembered.
const REMEMBERED: usize = 10_000;

/// What asking services needs.
pub(crate) struct Asking {
    pub(crate) client: AppserviceClient,
    /// By service.
    turns: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// The alias or user that is being asked about: whoever wants to know the same waits.
    asked: Keyed<String>,
    /// Of which service it was heard, and when by the monotonic clock, that there is no such alias or user.
    denied: Cache<(String, String), Duration>,
    /// What services aren't asked for a while.
    pub(crate) unasked: Unasked,
}

impl Asking {
    /// `extra_ca_pem`: certificates that are trusted beside the system's.
    pub(crate) fn new(extra_ca_pem: Vec<String>) -> Self {
        Self {
            client: AppserviceClient::new(extra_ca_pem),
            turns: Mutex::default(),
            asked: Keyed::default(),
            denied: Cache::new(REMEMBERED),
            unasked: Unasked::default(),
        }
    }

    /// Waits for a turn to ask a service.
    async fn turn(&self, service: &str) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let mut all = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            let turns = all.entry(service.to_owned());
            let turns = turns.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE)));
            Arc::clone(turns)
        };
        // Nobody closes it.
        turns.acquire_owned().await.ok()
    }
}
