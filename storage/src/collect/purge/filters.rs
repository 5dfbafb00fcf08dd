//! Filters that no client has used for long. A client that comes back after all finds that there is no such filter, and
//! stores it again.

use std::time::Duration;

use super::{Pass, Purged};
use crate::engine::clock::millis;
use crate::engine::sql::{Columns as _, rows};
use crate::{Result, UserNo};

/// For how long nobody used one that goes. It is noted to within a day (`accounts/filters.rs`).
pub(crate) const UNUSED: Duration = Duration::from_hours(180 * 24);

const PIECE: usize = 1_000;

/// Nobody knows when those from before were used last: their time begins.
const BEGIN: &str = "UPDATE client_filter SET used_ms = $1 WHERE used_ms IS NULL AND (user_no, id) IN \
    (SELECT user_no, id FROM client_filter WHERE used_ms IS NULL LIMIT $2)";
/// A user's newest stays: the next one is counted on from it, and no number may mean two filters.
const OLD: &str = "SELECT f.user_no, f.id FROM client_filter f WHERE f.used_ms < $1 AND EXISTS (\
    SELECT 1 FROM client_filter n WHERE n.user_no = f.user_no AND n.id > f.id) LIMIT $2";
const FORGET: &str = "DELETE FROM client_filter WHERE used_ms < $2 AND (user_no, id) IN \
    (SELECT x.user_no, x.id FROM ROWS($1) AS x)";

rows! {
    struct FilterRow {
        user_no: UserNo,
        id: i64,
    }
}

impl Pass<'_> {
    /// `false` if another process has the lease.
    pub(super) async fn filters(&self, purged: &mut Purged) -> Result<bool> {
        let now = self.store.clock().now_ms();
        loop {
            let query = self.store.sql(BEGIN).bind(now).bind(PIECE);
            let written = self.store.execute(query).await?;
            if !self.goes_on(purged, written).await? {
                return Ok(false);
            }
            if written < PIECE as u64 {
                break;
            }
        }
        let old = now - millis(UNUSED);
        loop {
            // Many stay, and are looked at again and again: nobody waits for that to write.
            let query = self.store.sql(OLD).bind(old).bind(PIECE);
            let rows = self.store.rows(query).await?;
            let filters = rows.iter().map(|row| {
                Ok(FilterRow {
                    user_no: row.get("user_no")?,
                    id: row.get("id")?,
                })
            });
            let filters: Vec<FilterRow> = filters.collect::<Result<_>>()?;
            let query = self.store.sql(FORGET).rows(&filters).bind(old);
            let deleted = self.store.execute(query).await?;
            if !self.goes_on(purged, deleted).await? {
                return Ok(false);
            }
            if filters.len() < PIECE {
                return Ok(true);
            }
        }
    }
}
