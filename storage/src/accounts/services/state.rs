//! What operators see of application services, and say.

use crate::engine::sql::{Columns as _, ReadRow};
use crate::{AppservicePause, CommitError, Pos, Result, Store};

/// What operators see of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceState {
    /// The id of its registration.
    pub id: String,
    /// It has what stands in the log up to here, or that doesn't concern it. Of one for which nothing comes this is noted
    /// now and then only.
    pub pos: Pos,
    /// How many positions of the log are behind that.
    pub behind: i64,
    /// Whether it is told nothing.
    pub paused: bool,
    /// The number of the last transaction.
    pub txn: i64,
    /// Of one that waits to be acknowledged: when it was made, in milliseconds since 1970, and how many bytes it has.
    pub waiting: Option<(i64, i64)>,
    /// How often that one has failed, …
    pub failures: i64,
    /// … since when, …
    pub failing_since_ms: i64,
    /// … why it did last, …
    pub error: String,
    /// … and when it is tried again.
    pub next_ms: i64,
    /// When one was acknowledged last; 0: none was.
    pub acknowledged_ms: i64,
}

impl Store {
    /// The services that are told nothing.
    pub async fn paused_services(&self) -> Result<Vec<String>> {
        let query = self.sql("SELECT id FROM appservice_pause WHERE paused = 1 ORDER BY id");
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("id")).collect()
    }

    /// Has a service told nothing from now on, or lets it go on: then it is tried at once, also if it wasn't paused.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn pause_service(&self, id: &str, paused: bool) -> Result<(), CommitError> {
        let pause = AppservicePause {
            id: id.to_owned(),
            paused,
        };
        self.commit(vec![pause.into()].into()).await.map(drop)
    }

    /// All services that were ever told something, by id: also those that aren't registered any more, for a while.
    pub async fn service_states(&self) -> Result<Vec<ServiceState>> {
        let head = self.log().refresh().await?;
        let query = self.sql(
            "SELECT s.id, s.pos, s.txn, s.failures, s.failing_since_ms, s.next_ms, s.error, \
             s.acknowledged_ms, COALESCE(p.paused, 0) AS paused, t.made_ms, \
             CAST(LENGTH(t.content) AS BIGINT) AS bytes \
             FROM appservice s LEFT JOIN appservice_txn t ON t.id = s.id \
             LEFT JOIN appservice_pause p ON p.id = s.id ORDER BY s.id",
        );
        let rows = self.rows(query).await?;
        let state = |row: &ReadRow| {
            let pos: Pos = row.get("pos")?;
            Ok(ServiceState {
                id: row.get("id")?,
                pos,
                behind: head.0.saturating_sub(pos.0).max(0),
                paused: row.get("paused")?,
                txn: row.get("txn")?,
                waiting: Option::zip(row.get("made_ms")?, row.get("bytes")?),
                failures: row.get("failures")?,
                failing_since_ms: row.get("failing_since_ms")?,
                error: row.get("error")?,
                next_ms: row.get("next_ms")?,
                acknowledged_ms: row.get("acknowledged_ms")?,
            })
        };
        rows.iter().map(state).collect()
    }
}
