//! How old a position of the log is. Positions have no times, and what events say of theirs others have said; so each
//! pass writes down where the log stands.

use std::time::Duration;

use super::Pass;
use crate::engine::clock::millis;
use crate::engine::sql::Columns as _;
use crate::{Pos, Result};

/// How far back it is known: further than anything is kept for its age.
const KEPT: Duration = Duration::from_hours(200 * 24);

impl Pass<'_> {
    /// Writes down where the log stands. A clock that has gone back says nothing until it is where it was: what is
    /// new would look old.
    pub(super) async fn note_time(&self) -> Result<()> {
        let now = self.store.clock().now_ms();
        let note = self
            .store
            .sql(
                "INSERT INTO log_time (at_ms, pos) SELECT $1, $2 \
                 WHERE NOT EXISTS (SELECT 1 FROM log_time WHERE at_ms >= $1) \
                 ON CONFLICT (at_ms) DO NOTHING",
            )
            .bind(now)
            .bind(self.store.log().head());
        self.store.execute(note).await?;
        // Of what is old enough the newest stays: it says the most.
        let old = self
            .store
            .sql("DELETE FROM log_time WHERE at_ms < (SELECT MAX(at_ms) FROM log_time WHERE at_ms <= $1)")
            .bind(now - millis(KEPT));
        self.store.execute(old).await?;
        Ok(())
    }

    /// What stands in the log up to here is at least so old, as far as anybody knows.
    pub(super) async fn older_than(&self, age: Duration) -> Result<Pos> {
        let query = self
            .store
            .sql("SELECT MAX(pos) AS pos FROM log_time WHERE at_ms <= $1")
            .bind(self.store.clock().now_ms() - millis(age));
        let row = self.store.row(query).await?;
        let known: Option<Option<Pos>> = row.map(|row| row.get("pos")).transpose()?;
        Ok(known.flatten().unwrap_or_default())
    }
}
