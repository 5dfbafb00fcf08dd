//! Of servers that haven't been there for a while nobody wants to know what they sent. One that comes again is counted anew.

use std::time::Duration;

use super::{Pass, Purged};
use crate::Result;
use crate::engine::clock::millis;

/// For how long it is told.
const TOLD: Duration = Duration::from_hours(30 * 24);

const PIECE: usize = 1_000;

const GONE: &str = "DELETE FROM inbound_seen WHERE last_seen_ms < $1 AND server IN \
    (SELECT server FROM inbound_seen WHERE last_seen_ms < $1 LIMIT $2)";

impl Pass<'_> {
    /// `false` if another process has the lease.
    pub(super) async fn inbound(&self, purged: &mut Purged) -> Result<bool> {
        let before = self.store.clock().now_ms() - millis(TOLD);
        loop {
            let query = self.store.sql(GONE).bind(before).bind(PIECE);
            let deleted = self.store.execute(query).await?;
            if !self.goes_on(purged, deleted).await? {
                return Ok(false);
            }
            if deleted < PIECE as u64 {
                return Ok(true);
            }
        }
    }
}
