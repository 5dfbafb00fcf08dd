//! Rows that only tell what has happened go when everybody has had the time to hear of it.

use std::time::Duration;

use crate::{Pos, Result, Store};

/// How many rows go at once.
const PIECE: usize = 1_000;

impl Store {
    /// Deletes what was told so long ago that no process can be reading up to it: who is further behind than
    /// its tail is long forgets everything instead. Gives the number of rows.
    /// Between pieces there is a pause, so that it takes little from what matters more.
    pub(crate) async fn purge_told(&self, pause: Duration) -> Result<u64> {
        let tails = i64::try_from(self.core.options.tail_entries.saturating_mul(4));
        let upto = Pos(self
            .log()
            .head()
            .0
            .saturating_sub(tails.unwrap_or(i64::MAX)));
        self.purge_told_upto(upto, pause).await
    }

    pub(super) async fn purge_told_upto(&self, upto: Pos, pause: Duration) -> Result<u64> {
        let mut gone = 0;
        for purge in super::PURGES.iter().flatten() {
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
