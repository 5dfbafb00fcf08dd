//! What goes by its age, or because nobody needs it any more: in small pieces with a pause after each, by the process
//! that has the lease.
//!
//! Requests go on meanwhile, and a process that was asleep may think that it still has the lease. So what is deleted
//! is named as it was seen, and each statement looks once more whether it may go; done twice, nothing more happens.
//!
//! A table without an index by age is gone through in the order of its key, a piece at a time: an index would cost
//! each message, and this is read by nobody in a hurry. How long the rows of each table live, [`super::lifetimes`] says.

mod expired;
mod filters;
mod inbound;
mod outbound;
mod receipts;
mod services;
mod sets;
#[cfg(test)]
mod tests;
mod times;
mod transactions;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use self::filters::UNUSED as FILTERS;
pub(crate) use self::transactions::KNOWN as TRANSACTIONS;
use super::Pass;
use crate::Result;

/// How many pieces in which there was nothing to delete before the lease is renewed.
const READ: u32 = 100;
/// How far the clock may have been set between two passes, before nothing is too old for the second.
const DRIFT: Duration = Duration::from_hours(24);
/// How far it had been set by the last one, in ms: sleeping machines look so as well.
static DRIFTED: AtomicU64 = AtomicU64::new(0);

/// How far it has come.
#[derive(Debug, Default)]
struct Purged {
    /// Rows that are gone.
    rows: u64,
    pieces: u32,
}

impl Pass<'_> {
    /// Deletes what is too old. Gives the number of rows.
    pub(super) async fn purge(&self) -> Result<u64> {
        let mut purged = Purged::default();
        let drift = self.store.clock().drift();
        let now = u64::try_from(drift.as_millis()).unwrap_or(u64::MAX);
        let before = Duration::from_millis(DRIFTED.swap(now, Ordering::Relaxed));
        if drift.abs_diff(before) > DRIFT {
            tracing::warn!(
                ?drift,
                "the machine's clock was set, or it slept: what is old is deleted the next time, if the clock is right"
            );
            return Ok(0);
        }
        if !self.lease.renew().await? {
            return Ok(0);
        }
        self.note_time().await?;
        let is_done = self.expired(&mut purged).await?
            && self.transactions(&mut purged).await?
            && self.receipts(&mut purged).await?
            && self.outbound(&mut purged).await?
            && self.sets(&mut purged).await?
            && self.filters(&mut purged).await?
            && self.inbound(&mut purged).await?
            && self.services(&mut purged).await?;
        if purged.rows > 0 {
            tracing::info!(
                rows = purged.rows,
                is_done,
                "rows that nobody needs any more were deleted"
            );
        }
        Ok(purged.rows)
    }

    /// After a piece, in which so many rows were written or deleted. `false` if another process has the lease.
    async fn goes_on(&self, purged: &mut Purged, written: u64) -> Result<bool> {
        purged.rows += written;
        purged.pieces += 1;
        self.pause().await;
        if written > 0 || purged.pieces.is_multiple_of(READ) {
            return self.lease.renew().await;
        }
        Ok(true)
    }
}
