//! Application services that are told what happens: how far each is, and the transaction that it hasn't acknowledged.
//!
//! One process tells them, by its lease; what it writes it writes on condition that it still has that. A transaction is
//! written down before it is sent, so that it is the same whatever ends the process, and its number never stands for
//! another: numbers begin with the time at which a service was first seen, and pass it again in each new life of the
//! database.

mod state;

use std::time::Duration;

use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::{Error, Lease, Pos, Result, Store};

pub use state::ServiceState;

/// How long a service that isn't registered any more is remembered.
pub(crate) const REMEMBERED: Duration = Duration::from_hours(60 * 24);

/// Where a service stands, for the process that tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePlace {
    /// The id of its registration.
    pub id: String,
    /// It has what stands in the log up to here, or that doesn't concern it.
    pub pos: Pos,
    /// The number of the last transaction.
    pub txn: i64,
    /// Whether it is told nothing for now.
    pub paused: bool,
    /// How often the transaction that waits has failed.
    pub failures: u32,
    /// Since when, in milliseconds since 1970.
    pub failing_since_ms: i64,
    /// When it is tried again.
    pub next_ms: i64,
}

/// A transaction that a service hasn't acknowledged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTransaction {
    /// Its number.
    pub txn: i64,
    /// What stands in the log up to here is in it, or was told before.
    pub upto: Pos,
    /// Its body.
    pub content: String,
    /// Messages to devices that go when it is acknowledged, by their positions.
    pub taken: Vec<Pos>,
}

/// A transaction that is to be sent next; see [`ServiceTransaction`].
#[derive(Debug, Clone, Copy)]
pub struct NewServiceTransaction<'a> {
    /// Its number, higher than that of the one before.
    pub txn: i64,
    /// See [`ServiceTransaction::upto`].
    pub upto: Pos,
    /// Its body.
    pub content: &'a str,
    /// See [`ServiceTransaction::taken`].
    pub taken: &'a [Pos],
}

/// That the transaction before was acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Acknowledged<'a> {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The messages to devices that go with that.
    pub taken: &'a [Pos],
}

/// What is written down of a service at once.
#[derive(Debug, Clone, Copy)]
pub struct ServiceStep<'a> {
    /// Which.
    pub id: &'a str,
    /// How far it is.
    pub pos: Pos,
    /// The transaction that waited was acknowledged.
    pub acknowledged: Option<Acknowledged<'a>>,
    /// The one that waits from now on.
    pub next: Option<NewServiceTransaction<'a>>,
}

/// That a service didn't take its transaction.
#[derive(Debug, Clone, Copy)]
pub struct ServiceFailure<'a> {
    /// How often in a row.
    pub failures: u32,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
    /// When it is tried again.
    pub next_ms: i64,
    /// Why, for the operator.
    pub error: &'a str,
}

rows! {
    struct NewRow<'a> {
        id: &'a str,
        pos: Pos,
        txn: i64,
        epoch: &'a str,
        now_ms: i64,
    }
}

rows! {
    struct PlaceRow<'a> {
        id: &'a str,
        pos: Pos,
        now_ms: i64,
    }
}

/// A service that is seen for the first time begins where the log ends. In a new life of the database, which may lack
/// what was sent in the last one, its numbers jump.
const SEEN: &str = "\
    INSERT INTO appservice (id, pos, txn, epoch, failures, failing_since_ms, next_ms, error, \
    acknowledged_ms, seen_ms) \
    SELECT id, pos, txn, epoch, 0, 0, 0, '', 0, now_ms FROM ROWS($1) AS x WHERE true \
    ON CONFLICT (id) DO UPDATE SET seen_ms = excluded.seen_ms, epoch = excluded.epoch, \
    pos = CASE WHEN appservice.pos > excluded.pos THEN excluded.pos ELSE appservice.pos END, \
    txn = CASE WHEN appservice.epoch = excluded.epoch THEN appservice.txn \
    WHEN appservice.txn >= excluded.txn THEN appservice.txn + 1 ELSE excluded.txn END";

const STEP: &str = "\
    UPDATE appservice SET pos = CASE WHEN pos > $2 THEN pos ELSE $2 END, \
    txn = CASE WHEN $3 > txn THEN $3 ELSE txn END WHERE id = $1";

const SUCCEEDED: &str = "\
    UPDATE appservice SET failures = 0, failing_since_ms = 0, next_ms = 0, error = '', \
    acknowledged_ms = $2 WHERE id = $1";

const NEXT: &str = "\
    INSERT INTO appservice_txn (id, txn, upto, content, taken, made_ms) \
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET txn = excluded.txn, \
    upto = excluded.upto, content = excluded.content, taken = excluded.taken, \
    made_ms = excluded.made_ms";

impl Store {
    /// This process tells these services from now on. Gives where they stand, in the order of `ids`; `None` if the lease
    /// is another's.
    pub async fn begin_services(
        &self,
        lease: &Lease,
        ids: &[&str],
        head: Pos,
    ) -> Result<Option<Vec<ServicePlace>>> {
        let (epoch, now_ms) = (self.epoch(), self.clock().now_ms());
        let new: Vec<_> = (ids.iter())
            .map(|id| NewRow {
                id,
                pos: head,
                txn: now_ms,
                epoch: &epoch,
                now_ms,
            })
            .collect();
        let mut tx = self.begin().await?;
        if !lease.hold(&mut tx).await? {
            tx.rollback().await;
            return Ok(None);
        }
        let query = tx
            .sql(
                "DELETE FROM appservice_txn WHERE id IN (SELECT id FROM appservice WHERE epoch <> $1)",
            )
            .bind(&*epoch);
        tx.execute(query).await?;
        let query = tx.sql(SEEN).rows(&new);
        tx.execute(query).await?;
        let query = tx
            .sql(
                "SELECT s.id, s.pos, s.txn, s.failures, s.failing_since_ms, s.next_ms, \
                 COALESCE(p.paused, 0) AS paused \
                 FROM appservice s LEFT JOIN appservice_pause p ON p.id = s.id \
                 WHERE s.id IN TEXTS($1)",
            )
            .texts(ids.iter().copied());
        let found = tx.rows(query).await?;
        tx.commit().await?;
        let found: Vec<ServicePlace> = found.iter().map(place).collect::<Result<_>>()?;
        let of = |id: &&str| {
            let found = found.iter().find(|place| place.id == **id).cloned();
            found.ok_or_else(|| Error::broken("an application service has no row"))
        };
        ids.iter().map(of).collect::<Result<_>>().map(Some)
    }

    /// The transaction that a service hasn't acknowledged.
    pub async fn service_transaction(&self, id: &str) -> Result<Option<ServiceTransaction>> {
        let query = self
            .sql("SELECT txn, upto, content, taken FROM appservice_txn WHERE id = $1")
            .bind(id);
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        let taken: String = row.get("taken")?;
        let taken: Vec<i64> = serde_json::from_str(&taken)
            .map_err(|_| Error::broken("what a transaction takes isn't a list"))?;
        Ok(Some(ServiceTransaction {
            txn: row.get("txn")?,
            upto: row.get("upto")?,
            content: row.get("content")?,
            taken: taken.into_iter().map(Pos).collect(),
        }))
    }

    /// Writes down how far a service is, in one transaction: what was acknowledged is forgotten, and what comes next is
    /// kept until it is. `false` if the lease is another's.
    pub async fn step_service(&self, lease: &Lease, step: ServiceStep<'_>) -> Result<bool> {
        let mut tx = self.begin().await?;
        if !lease.hold(&mut tx).await? {
            tx.rollback().await;
            return Ok(false);
        }
        let query = tx
            .sql(STEP)
            .bind(step.id)
            .bind(step.pos)
            .bind(step.next.map_or(0, |next| next.txn));
        tx.execute(query).await?;
        if let Some(acknowledged) = step.acknowledged {
            let query = tx.sql(SUCCEEDED).bind(step.id).bind(acknowledged.at_ms);
            tx.execute(query).await?;
            if !acknowledged.taken.is_empty() {
                let query = tx
                    .sql("DELETE FROM to_device WHERE pos IN NUMBERS($1)")
                    .numbers(acknowledged.taken.iter().copied());
                tx.execute(query).await?;
            }
        }
        match step.next {
            Some(next) => {
                let taken: Vec<i64> = next.taken.iter().map(|pos| pos.0).collect();
                let taken = serde_json::to_string(&taken).unwrap_or_default();
                let query = tx
                    .sql(NEXT)
                    .bind(step.id)
                    .bind(next.txn)
                    .bind(next.upto)
                    .bind(next.content)
                    .bind(taken)
                    .bind(self.clock().now_ms());
                tx.execute(query).await?;
            }
            None if step.acknowledged.is_some() => {
                let query = tx
                    .sql("DELETE FROM appservice_txn WHERE id = $1")
                    .bind(step.id);
                tx.execute(query).await?;
            }
            None => {}
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Notes that a service didn't take its transaction. `false` if the lease is another's.
    pub async fn service_failed(
        &self,
        lease: &Lease,
        id: &str,
        failure: ServiceFailure<'_>,
    ) -> Result<bool> {
        let mut tx = self.begin().await?;
        if !lease.hold(&mut tx).await? {
            tx.rollback().await;
            return Ok(false);
        }
        let query = tx
            .sql(
                "UPDATE appservice SET failures = $2, failing_since_ms = $3, next_ms = $4, error = $5 \
                 WHERE id = $1",
            )
            .bind(id)
            .bind(i64::from(failure.failures))
            .bind(failure.since_ms)
            .bind(failure.next_ms)
            .bind(failure.error);
        tx.execute(query).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Notes how far services are for which no transaction waits, and that they are registered still. `false` if the
    /// lease is another's.
    pub async fn services_stand_at(&self, lease: &Lease, places: &[(&str, Pos)]) -> Result<bool> {
        let now_ms = self.clock().now_ms();
        let rows: Vec<_> = (places.iter())
            .map(|(id, pos)| PlaceRow {
                id,
                pos: *pos,
                now_ms,
            })
            .collect();
        let mut tx = self.begin().await?;
        if !lease.hold(&mut tx).await? {
            tx.rollback().await;
            return Ok(false);
        }
        let query = tx
            .sql(
                "UPDATE appservice SET seen_ms = x.now_ms, \
                 pos = CASE WHEN appservice.pos > x.pos THEN appservice.pos ELSE x.pos END \
                 FROM ROWS($1) AS x WHERE appservice.id = x.id",
            )
            .rows(&rows);
        tx.execute(query).await?;
        tx.commit().await?;
        Ok(true)
    }
}

fn place(row: &ReadRow) -> Result<ServicePlace> {
    let failures: i64 = row.get("failures")?;
    Ok(ServicePlace {
        id: row.get("id")?,
        pos: row.get("pos")?,
        txn: row.get("txn")?,
        paused: row.get("paused")?,
        failures: u32::try_from(failures).unwrap_or(u32::MAX),
        failing_since_ms: row.get("failing_since_ms")?,
        next_ms: row.get("next_ms")?,
    })
}

#[cfg(test)]
mod tests;
