//! Rows that only tell what has happened go when everybody has had the time to hear of it.

use std::sync::LazyLock;
use std::time::Duration;

use super::{TABLES, TELLING};
use crate::{Pos, Result, Store};

/// The tables whose rows only tell.
pub(crate) fn tables() -> impl Iterator<Item = &'static str> {
    let telling = TABLES.iter().zip(TELLING).filter(|(_, tells)| **tells);
    telling.map(|(table, _)| *table)
}

/// The position up to which nobody can be reading any more, where the log has got to `head`.
pub(crate) fn told_upto(head: Pos, tail_entries: usize) -> Pos {
    let tails = i64::try_from(tail_entries.saturating_mul(4));
    Pos(head.0.saturating_sub(tails.unwrap_or(i64::MAX)))
}

/// Deletes the oldest rows (at most `$2` of them) of each such table that stand at or before `$1`.
static PURGES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let purge = |table: &str| {
        format!(
            "DELETE FROM {table} WHERE pos IN \
             (SELECT pos FROM {table} WHERE pos <= $1 ORDER BY pos LIMIT $2)"
        )
    };
    tables().map(purge).collect()
});

/// How many rows go at once.
const PIECE: usize = 1_000;

impl Store {
    /// Deletes what was told so long ago that no process can be reading up to it: who is further behind than
    /// its tail is long forgets everything instead. Gives the number of rows.
    /// Between pieces there is a pause, so that it takes little from what matters more.
    pub(crate) async fn purge_told(&self, pause: Duration) -> Result<u64> {
        let upto = told_upto(self.log().head(), self.core.options.tail_entries);
        self.purge_told_upto(upto, pause).await
    }

    pub(crate) async fn purge_told_upto(&self, upto: Pos, pause: Duration) -> Result<u64> {
        let mut gone = 0;
        for purge in PURGES.iter() {
            loop {
                let query = self.sql(purge).bind(upto).bind(PIECE);
                let deleted = self.execute(query).await?;
                gone += deleted;
                if deleted < PIECE as u64 {
                    break;
                }
                self.clock().sleep(pause).await;
            }
        }
        Ok(gone)
    }
}
