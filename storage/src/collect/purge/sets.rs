//! Sets of servers that no event goes to any more: rooms have a new one whenever a server comes or goes.
//!
//! Processes remember the numbers of sets, and a commit that uses one doesn't look whether it is there. So a set is
//! *retired* first: from then on nobody finds it, and whoever remembers it looks again within the hour
//! (`commit/gather.rs`). It is deleted a day later, when nothing is left to be sent to it. Whatever was given to it in between
//! is sent as always; an event that goes to the same servers later has a new set.

use std::time::Duration;

use super::{Pass, Purged};
use crate::engine::clock::millis;
use crate::engine::sql::Columns as _;
use crate::{Pos, Result, SetNo};

/// For how long nothing was sent to one that is retired.
const UNUSED: Duration = Duration::from_hours(30 * 24);
/// For how long it is retired. Much longer than a process remembers a set without looking, and any request takes.
const RETIRED: Duration = Duration::from_hours(24);

const PIECE: usize = 1_000;
/// Old rows are large: they hold the names of all servers.
const RETIRED_AT_ONCE: usize = 50;

/// The next ones.
const NEXT: &str = "SELECT d.no, d.retired_ms, l.last_pos FROM destination_set d \
    LEFT JOIN outbound_last l ON l.set_no = d.no WHERE d.no > $1 ORDER BY d.no LIMIT $2";
const RETIRE: &str = "UPDATE destination_set SET retired_ms = $2, digest = 'retired ' || CAST(no AS TEXT) \
    WHERE no IN NUMBERS($1) AND retired_ms IS NULL AND NOT EXISTS (\
    SELECT 1 FROM outbound_last l WHERE l.set_no = destination_set.no AND l.last_pos > $3)";

impl Pass<'_> {
    /// `false` if another process has the lease.
    pub(super) async fn sets(&self, purged: &mut Purged) -> Result<bool> {
        let now = self.store.clock().now_ms();
        let old = self.older_than(UNUSED).await?;
        let mut after = SetNo(i64::MIN);
        loop {
            let query = self.store.sql(NEXT).bind(after).bind(PIECE);
            let rows = self.store.rows(query).await?;
            let (mut unused, mut over) = (Vec::new(), Vec::new());
            for row in &rows {
                after = row.get("no")?;
                // One that has no position was never sent anything, or not since positions are noted.
                let last: Option<Pos> = row.get("last_pos")?;
                match row.get::<Option<i64>>("retired_ms")? {
                    None if old > Pos(0) && last.is_none_or(|last| last <= old) => {
                        unused.push(after);
                    }
                    Some(since) if since <= now - millis(RETIRED) => over.push(after),
                    _ => {}
                }
            }
            for unused in unused.chunks(RETIRED_AT_ONCE) {
                let unused = unused.iter().copied();
                let query = self.store.sql(RETIRE).numbers(unused).bind(now).bind(old);
                let retired = self.store.execute(query).await?;
                if !self.goes_on(purged, retired).await? {
                    return Ok(false);
                }
            }
            if !self.goes_on(purged, 0).await? {
                return Ok(false);
            }
            for set in over {
                if !self.forget_set(set, purged).await? {
                    return Ok(false);
                }
            }
            if rows.len() < PIECE {
                return Ok(true);
            }
        }
    }

    /// Deletes a retired set, unless there is something to be sent to it. Wherever this ends, the next pass goes on.
    async fn forget_set(&self, set: SetNo, purged: &mut Purged) -> Result<bool> {
        let waiting = self
            .store
            .sql("SELECT pos FROM outbound WHERE set_no = $1 LIMIT 1")
            .bind(set);
        if self.store.row(waiting).await?.is_some() {
            return Ok(true);
        }
        loop {
            let query = self
                .store
                .sql(
                    "DELETE FROM set_member WHERE set_no = $1 AND server IN \
                     (SELECT server FROM set_member WHERE set_no = $1 LIMIT $2) \
                     AND NOT EXISTS (SELECT 1 FROM outbound o WHERE o.set_no = $1)",
                )
                .bind(set)
                .bind(PIECE);
            let deleted = self.store.execute(query).await?;
            if !self.goes_on(purged, deleted).await? {
                return Ok(false);
            }
            if deleted < PIECE as u64 {
                break;
            }
        }
        // The set itself last: by it the rest is found.
        let mut deleted = 0;
        for text in [
            "DELETE FROM outbound_last WHERE set_no = $1 \
             AND NOT EXISTS (SELECT 1 FROM set_member m WHERE m.set_no = $1)",
            "DELETE FROM destination_set WHERE no = $1 AND retired_ms IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM set_member m WHERE m.set_no = $1)",
        ] {
            deleted += self.store.execute(self.store.sql(text).bind(set)).await?;
        }
        self.goes_on(purged, deleted).await
    }
}
