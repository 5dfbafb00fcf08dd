//! Connections that nobody uses any more.

use std::time::Duration;

use crate::engine::clock::millis;
use crate::engine::sql::Columns as _;
use crate::{Result, Store};

/// How long a connection is kept that isn't used: a client that comes back later begins anew, with what is newest.
pub(crate) const AGE: Duration = Duration::from_hours(30 * 24);
/// How many go at once.
const PIECE: usize = 50;

impl Store {
    /// Deletes connections that weren't used for long, piece by piece. Gives their number.
    pub(crate) async fn purge_sliding(&self, pause: Duration) -> Result<u64> {
        let before = self.clock().now_ms() - millis(AGE);
        let mut gone = 0;
        loop {
            let query = self
                .sql("SELECT no FROM sliding_connection WHERE seen_ms < $1 LIMIT $2")
                .bind(before)
                .bind(PIECE);
            let rows = self.rows(query).await?;
            let old: Vec<i64> = rows
                .iter()
                .map(|row| row.get("no"))
                .collect::<Result<_>>()?;
            for text in [
                "DELETE FROM sliding_room WHERE connection IN NUMBERS($1)",
                "DELETE FROM sliding_version WHERE connection IN NUMBERS($1)",
                "DELETE FROM sliding_connection WHERE no IN NUMBERS($1)",
            ] {
                self.execute(self.sql(text).numbers(old.iter().copied()))
                    .await?;
            }
            gone += old.len() as u64;
            if old.len() < PIECE {
                return Ok(gone);
            }
            self.clock().sleep(pause).await;
        }
    }
}
