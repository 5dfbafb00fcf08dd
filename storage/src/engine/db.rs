//! Plain statements. What every module of this crate uses; counted, and in both dialects.

use futures_util::TryStreamExt as _;
use sqlx::any::AnyRow;
use sqlx::{Any, AnyPool, Executor as _, Transaction};

use super::sql::Query;
use super::sql::many::Many;
use crate::{Result, Store};

impl Store {
    /// A statement in this store's dialect (`engine/dialect.rs` lists the words that it may use).
    /// Bind arguments with `.bind(…)`, then give it to [`Store::rows`] and its like.
    pub(crate) fn sql(&self, text: &'static str) -> Query {
        Query::new(self.core.dialect, text)
    }

    /// All rows of a read.
    pub(crate) async fn rows(&self, query: Query) -> Result<Vec<AnyRow>> {
        self.core.counters.queries(1);
        Ok(query.ready()?.fetch_all(&self.core.readers).await?)
    }

    /// The only row of a read.
    pub(crate) async fn row(&self, query: Query) -> Result<Option<AnyRow>> {
        self.core.counters.queries(1);
        Ok(query.ready()?.fetch_optional(&self.core.readers).await?)
    }

    /// A write of its own, durable when this returns; gives the number of rows it touched.
    pub(crate) async fn execute(&self, query: Query) -> Result<u64> {
        self.core.counters.queries(1);
        let done = query.ready()?.execute(&self.core.writers).await?;
        self.core.counters.transactions(1);
        Ok(done.rows_affected())
    }

    /// A write of its own that returns rows (`… RETURNING …`), durable when this returns.
    pub(crate) async fn execute_returning(&self, query: Query) -> Result<Vec<AnyRow>> {
        self.core.counters.queries(1);
        let rows = query.ready()?.fetch_all(&self.core.writers).await?;
        self.core.counters.transactions(1);
        Ok(rows)
    }

    /// A transaction that writes, outside of the commit queue: for tables without positions.
    /// On SQLite it keeps every other writer waiting, so do no other I/O inside.
    pub(crate) async fn begin(&self) -> Result<Tx> {
        self.begin_in(&self.core.writers).await
    }

    /// The same, for the commit queue: its statements are planned as ones that go by keys.
    pub(crate) async fn begin_commit(&self) -> Result<Tx> {
        self.begin_in(&self.core.committers).await
    }

    async fn begin_in(&self, pool: &AnyPool) -> Result<Tx> {
        let statement = self.core.dialect.begin();
        let inner = if self.core.dialect.is_shared() {
            let pool = pool.clone();
            to_its_end(async move { pool.begin_with(statement).await }).await?
        } else {
            pool.begin_with(statement).await?
        };
        Ok(Tx {
            inner,
            store: self.clone(),
        })
    }
}

/// Waits for a beginning transaction, which begins in any case. (sqlx's PostgreSQL driver forgets of one whose beginning
/// nobody waits for any longer that it has begun: what the next one writes by that connection, outside of any transaction
/// as they think, would be in it, and be durable or not as whoever has the connection after them commits or doesn't.)
async fn to_its_end<T: Send + 'static>(
    begin: impl Future<Output = sqlx::Result<T>> + Send + 'static,
) -> sqlx::Result<T> {
    let begun = tokio::spawn(begin).await;
    begun.unwrap_or_else(|ended| match ended.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(sqlx::Error::WorkerCrashed),
    })
}

/// A transaction; dropping it undoes everything.
pub(crate) struct Tx {
    inner: Transaction<'static, Any>,
    store: Store,
}

impl Tx {
    pub(crate) fn sql(&self, text: &'static str) -> Query {
        self.store.sql(text)
    }

    pub(crate) async fn rows(&mut self, query: Query) -> sqlx::Result<Vec<AnyRow>> {
        self.store.core.counters.queries(1);
        query.ready()?.fetch_all(&mut *self.inner).await
    }

    pub(crate) async fn row(&mut self, query: Query) -> sqlx::Result<Option<AnyRow>> {
        self.store.core.counters.queries(1);
        query.ready()?.fetch_optional(&mut *self.inner).await
    }

    pub(crate) async fn execute(&mut self, query: Query) -> sqlx::Result<u64> {
        self.store.core.counters.queries(1);
        Ok(query
            .ready()?
            .execute(&mut *self.inner)
            .await?
            .rows_affected())
    }

    /// Whether it takes many statements at once.
    pub(crate) fn takes_many(&self) -> bool {
        !self.store.core.dialect.is_shared()
    }

    /// Runs many statements at once, in their order; gives how many rows each touched.
    pub(crate) async fn execute_many(&mut self, many: Many) -> sqlx::Result<Vec<u64>> {
        let counters = &self.store.core.counters;
        counters.queries(many.count());
        let mut touched = Vec::with_capacity(many.count());
        let mut done = (&mut *self.inner).fetch_many(many.ready()?);
        while let Some(step) = done.try_next().await? {
            touched.extend(step.left().map(|done| done.rows_affected()));
        }
        Ok(touched)
    }

    pub(crate) async fn commit(self) -> sqlx::Result<()> {
        self.inner.commit().await?;
        self.store.core.counters.transactions(1);
        Ok(())
    }

    pub(crate) async fn rollback(self) {
        // If this fails the connection is gone, and the transaction with it.
        let _ = self.inner.rollback().await;
    }
}

/// Bytes as text, for `UNHEX(x)` and for digests.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ruma::RoomId;

    use crate::testing::TestDatabase;
    use crate::{Options, Store};

    #[tokio::test]
    async fn what_is_written_after_a_beginning_that_nobody_waits_for_is_written() {
        for database in TestDatabase::both().await {
            let options = Options {
                max_connections: 4,
                ..database.options()
            };
            let store = Store::open(options).await.unwrap();
            for n in 0..200_u64 {
                // Cut off sooner or later on its way.
                let soon = Duration::from_micros(n * 7);
                drop(tokio::time::timeout(soon, store.begin()).await);
                let room = RoomId::parse(format!("!{n}:x")).unwrap();
                // It is written by one connection and read by another.
                store.room_no(&room).await.unwrap();
            }
            store.close().await;
            database.remove().await;
        }
    }
}
