//! Filters that no client has used for long. A client that comes back after all finds that there is no such filter, and
//! stores it again.

use std::time::Duration;

use super::{Pass, Purged};
use crate::Result;
use crate::engine::clock::millis;

/// For how long nobody used one that goes. It is noted to within a day (`accounts/filters.rs`).
const UNUSED: Duration = Duration::from_hours(180 * 24);

const PIECE: usize = 1_000;

/// Nobody knows when those from before were used last: their time begins.
const BEGIN: &str = "UPDATE client_filter SET used_ms = $1 WHERE used_ms IS NULL AND (user_no, id) IN \
    (SELECT user_no, id FROM client_filter WHERE used_ms IS NULL LIMIT $2)";
/// A user's newest stays: the next one is counted on from it, and no number may mean two filters.
const OLD: &str = "DELETE FROM client_filter WHERE used_ms < $1 AND (user_no, id) IN \
    (SELECT f.user_no, f.id FROM client_filter f WHERE f.used_ms < $1 AND EXISTS (\
    SELECT 1 FROM client_filter n WHERE n.user_no = f.user_no AND n.id > f.id) LIMIT $2)";

impl Pass<'_> {
    /// `false` if another process has the lease.
    pub(super) async fn filters(&self, purged: &mut Purged) -> Result<bool> {
        let now = self.store.clock().now_ms();
        for (text, time) in [(BEGIN, now), (OLD, now - millis(UNUSED))] {
            loop {
                let query = self.store.sql(text).bind(time).bind(PIECE);
                let written = self.store.execute(query).await?;
                if !self.goes_on(purged, written).await? {
                    return Ok(false);
                }
                if written < PIECE as u64 {
                    break;
                }
            }
        }
        Ok(true)
    }
}
