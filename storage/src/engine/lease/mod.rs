//! Leases: which of several processes on one database does work that only one may do at a time.
//!
//! A lease lasts until a time of the database's clock, so that no process need have the right one, and is
//! renewed while the work goes on. A process that was frozen and comes back doesn't know that its time is
//! over; so every take-over raises the lease's *fence*, and what is written for a holder is written on
//! condition that the fence is still theirs ([`Lease::hold`]).

mod former;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::engine::clock::millis;
use crate::engine::db::Tx;
use crate::engine::sql::Columns as _;
use crate::{Result, Store, random};

/// A lease that this process has, or had. Clones are the same.
#[derive(Debug, Clone)]
pub struct Lease(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    name: String,
    owner: String,
    fence: i64,
    /// `None`: for good.
    length: Option<Duration>,
    /// When it was asked for, by the store's monotonic time.
    asked_at: Duration,
    /// Until when nobody else can have it, in ms of this process's time; 0 when it is lost.
    until: AtomicU64,
}

impl Lease {
    /// Takes the lease of this name, if it is free, for `length`, or `None`: from whoever has it and for
    /// good, which is for a database that has no other processes.
    pub async fn take(store: &Store, name: &str, length: Option<Duration>) -> Result<Option<Self>> {
        let owner = random::hex::<8>()?;
        let asked_at = store.clock().monotonic();
        let until = until(asked_at, length);
        let mut tx = store.begin().await?;
        if let Some(length) = length
            && !former::claim(&mut tx, store, name, &owner, length).await?
        {
            tx.rollback().await;
            return Ok(None);
        }
        let query = tx
            .sql(TAKE)
            .bind(name)
            .bind(&owner)
            .bind(store.clock().manual_ms())
            .bind(length.map(millis));
        let rows = tx.rows(query).await?;
        let Some(row) = rows.first() else {
            tx.rollback().await;
            return Ok(None);
        };
        let fence = row.get("fence")?;
        tx.commit().await?;
        Ok(Some(Self(Arc::new(Inner {
            store: store.clone(),
            name: name.to_owned(),
            owner,
            fence,
            length,
            asked_at,
            until: AtomicU64::new(until),
        }))))
    }

    /// Makes it last for its length from now on, also if its time was over and nobody came. `false` if it has
    /// passed to another.
    pub async fn renew(&self) -> Result<bool> {
        let Inner {
            store,
            name,
            owner,
            length: Some(length),
            ..
        } = &*self.0
        else {
            return Ok(true);
        };
        let until = until(store.clock().monotonic(), Some(*length));
        let mut tx = store.begin().await?;
        let query = tx
            .sql(RENEW)
            .bind(name)
            .bind(self.0.fence)
            .bind(store.clock().manual_ms())
            .bind(millis(*length));
        let held = former::claim(&mut tx, store, name, owner, *length).await?
            && tx.execute(query).await? > 0;
        if held {
            tx.commit().await?;
        } else {
            tx.rollback().await;
        }
        let until = if held { until } else { 0 };
        self.0.until.store(until, Ordering::Release);
        Ok(held)
    }

    /// [`Lease::renew`] for work that goes by [`Lease::held`]: `false` also if its time was over before it was
    /// renewed, even for a moment. Something here may have acted on that, so it is to be taken anew.
    pub(crate) async fn renew_in_time(&self) -> Result<bool> {
        let before = self.0.until.load(Ordering::Acquire);
        if !self.held() || !self.renew().await? {
            return Ok(false);
        }
        let in_time = now(&self.0.store) < before;
        if !in_time {
            self.0.until.store(0, Ordering::Release);
        }
        Ok(in_time)
    }

    /// Gives it back, so that another process needn't wait for its end.
    pub async fn release(&self) -> Result<()> {
        let Inner {
            store, name, owner, ..
        } = &*self.0;
        self.0.until.store(0, Ordering::Release);
        let mut tx = store.begin().await?;
        former::release(&mut tx, store, name, owner).await?;
        let query = tx
            .sql("UPDATE lease SET until = 0 WHERE name = $1 AND fence = $2")
            .bind(name)
            .bind(self.0.fence);
        tx.execute(query).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Whether nobody else can have it by now, as far as this process's own time tells: for work that
    /// writes nothing which the fence could keep out.
    pub fn held(&self) -> bool {
        now(&self.0.store) < self.0.until.load(Ordering::Acquire)
    }

    /// When it was asked for, by the store's monotonic time: its length counts from here on.
    pub(crate) fn asked_at(&self) -> Duration {
        self.0.asked_at
    }

    /// What it is for.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn fence(&self) -> i64 {
        self.0.fence
    }

    /// The fence: whether it is still ours. Until `tx` ends nobody can take it, so that what is written in
    /// it is never the work of somebody who has lost it, however long they were asleep.
    pub(crate) async fn hold(&self, tx: &mut Tx) -> Result<bool> {
        let query = tx
            .sql("SELECT fence FROM lease WHERE name = $1 AND fence = $2 FOR_UPDATE")
            .bind(&self.0.name)
            .bind(self.0.fence);
        Ok(tx.row(query).await?.is_some())
    }
}

/// (A clock that tests hold stands in for the database's.)
const TAKE: &str = "\
    INSERT INTO lease (name, owner, fence, until) VALUES ($1, $2, 1, \
    COALESCE(COALESCE(CAST($3 AS BIGINT), NOW_MS) + CAST($4 AS BIGINT), 9223372036854775807)) \
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until, \
    fence = lease.fence + 1 \
    WHERE lease.until <= COALESCE(CAST($3 AS BIGINT), NOW_MS) OR CAST($4 AS BIGINT) IS NULL \
    RETURNING fence";

const RENEW: &str = "\
    UPDATE lease SET until = COALESCE(CAST($3 AS BIGINT), NOW_MS) + CAST($4 AS BIGINT) \
    WHERE name = $1 AND fence = $2";

/// When a lease that is asked for at this time ends for us: later for the database, which hears of it later.
fn until(asked_at: Duration, length: Option<Duration>) -> u64 {
    length.map_or(u64::MAX, |length| whole_ms(asked_at.saturating_add(length)))
}

fn now(store: &Store) -> u64 {
    whole_ms(store.clock().monotonic())
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
