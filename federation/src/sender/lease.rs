//! Of several processes on one database, one sends what is in the log.
//!
//! The lease is short and renewed often. A process that was frozen and comes back may send for a
//! moment besides the new holder; that costs repetition at most, as cursors never go back and
//! receivers know an event by its id.

use std::time::Duration;

use rhizome_storage::{Dialect, Duty, Error, Store, millis, random};
use tokio::time::Instant;

/// How long a lease lasts without renewal, and how often it is renewed or asked for.
const LENGTH: Duration = Duration::from_secs(6);
const RENEWAL: Duration = Duration::from_secs(2);

/// This process's part in the lease.
pub(crate) struct Lease {
    store: Store,
    owner: String,
    /// Until when we hold it; `None` is not.
    until: Option<Instant>,
    /// When to renew it or ask for it again; `None` where there are no other processes.
    due: Option<Instant>,
}

impl Lease {
    pub(crate) fn new(store: &Store) -> Self {
        // An embedded database has no other processes.
        let shared = store.dialect() == Dialect::Postgres;
        // Without randomness the process number has to do.
        let owner =
            random::hex::<8>().unwrap_or_else(|_| format!("process {}", std::process::id()));
        Self {
            store: store.clone(),
            owner,
            until: None,
            due: shared.then(Instant::now),
        }
    }

    /// Renews the lease, or asks for it, if that is due. Gives the time to call this again.
    pub(crate) async fn keep(&mut self) -> Result<Option<Instant>, Error> {
        let Some(due) = self.due else { return Ok(None) };
        let now = Instant::now();
        if due > now {
            return Ok(Some(due));
        }
        let wall = self.store.clock().now_ms();
        let length = millis(LENGTH);
        let got = self
            .store
            .take_duty(Duty::Sending, &self.owner, wall, wall + length)
            .await?;
        if got != self.until.is_some() {
            tracing::info!(
                held = got,
                "the lease on sending to other servers changed hands"
            );
        }
        self.until = got.then_some(now + LENGTH);
        self.due = Some(now + RENEWAL);
        Ok(self.due)
    }

    /// Whether this process is to send what is in the log.
    pub(crate) fn held(&self) -> bool {
        self.due.is_none() || self.until.is_some_and(|until| Instant::now() < until)
    }

    /// Gives it back.
    pub(crate) async fn release(&mut self) -> Result<(), Error> {
        if self.until.take().is_some() {
            self.store.release_duty(Duty::Sending, &self.owner).await?;
        }
        Ok(())
    }
}
