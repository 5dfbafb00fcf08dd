//! Plain statements. What every module of this crate uses; counted, and in both dialects.

use super::database::Transacting;
use super::sql::{Bound, Query, ReadRow};
use crate::{Result, Store};

impl Store {
    /// A statement in this store's dialect (`engine/dialect.rs` lists the words that it may use).
    /// Bind arguments with `.bind(…)`, then give it to [`Store::rows`] and its like.
    pub(crate) fn sql(&self, text: &'static str) -> Query {
        Query::new(self.core.dialect, text)
    }

    /// All rows of a read.
    pub(crate) async fn rows(&self, query: Query) -> Result<Vec<ReadRow>> {
        self.core.counters.queries(1);
        Ok(self.noted(self.core.database.rows(query).await)?)
    }

    /// All rows of a read, and of another that follows from them, if it does; SQLite is handed both at once.
    pub(crate) async fn rows_then(
        &self,
        query: Query,
        then: impl FnOnce(&[ReadRow]) -> Option<Query> + Send + 'static,
    ) -> Result<(Vec<ReadRow>, Vec<ReadRow>)> {
        let (first, more) = self.noted(self.core.database.rows_then(query, then).await)?;
        self.core.counters.queries(1 + usize::from(more.is_some()));
        Ok((first, more.unwrap_or_default()))
    }

    /// The only row of a read.
    pub(crate) async fn row(&self, query: Query) -> Result<Option<ReadRow>> {
        self.core.counters.queries(1);
        Ok(self.noted(self.core.database.row(query).await)?)
    }

    /// A write of its own, durable when this returns; gives the number of rows it touched.
    pub(crate) async fn execute(&self, query: Query) -> Result<u64> {
        self.core.counters.queries(1);
        let touched = self.noted(self.core.database.execute(query).await)?;
        self.core.counters.transactions(1);
        Ok(touched)
    }

    /// A write of its own that returns rows (`… RETURNING …`), durable when this returns.
    pub(crate) async fn execute_returning(&self, query: Query) -> Result<Vec<ReadRow>> {
        self.core.counters.queries(1);
        let rows = self.noted(self.core.database.execute_returning(query).await)?;
        self.core.counters.transactions(1);
        Ok(rows)
    }

    /// A transaction that writes, outside of the commit queue: for tables without positions.
    /// On SQLite it keeps every other writer waiting, so do no other I/O inside.
    pub(crate) async fn begin(&self) -> Result<Tx> {
        self.begin_one(false).await
    }

    /// The same, for the commit queue: its statements are planned as ones that go by keys.
    pub(crate) async fn begin_commit(&self) -> Result<Tx> {
        self.begin_one(true).await
    }

    async fn begin_one(&self, for_commit: bool) -> Result<Tx> {
        Ok(Tx {
            inner: self.noted(self.core.database.begin(for_commit).await)?,
            store: self.clone(),
        })
    }

    /// Counts what the database has failed at. That a row is there already is an answer, and no failure.
    fn noted<T>(&self, outcome: sqlx::Result<T>) -> sqlx::Result<T> {
        if let Err(error) = &outcome {
            let known = error.as_database_error();
            let is_there = known.is_some_and(sqlx::error::DatabaseError::is_unique_violation);
            self.core.counters.errors(usize::from(!is_there));
        }
        outcome
    }
}

/// A transaction; dropping it undoes everything.
pub(crate) struct Tx {
    inner: Transacting,
    store: Store,
}

impl Tx {
    pub(crate) fn sql(&self, text: &'static str) -> Query {
        self.store.sql(text)
    }

    pub(crate) async fn rows(&mut self, query: Query) -> sqlx::Result<Vec<ReadRow>> {
        self.store.core.counters.queries(1);
        let done = self.inner.rows(query).await;
        self.store.noted(done)
    }

    pub(crate) async fn row(&mut self, query: Query) -> sqlx::Result<Option<ReadRow>> {
        self.store.core.counters.queries(1);
        let done = self.inner.row(query).await;
        self.store.noted(done)
    }

    pub(crate) async fn execute(&mut self, query: Query) -> sqlx::Result<u64> {
        self.store.core.counters.queries(1);
        let done = self.inner.execute(query).await;
        self.store.noted(done)
    }

    /// Whether it takes many statements at once.
    pub(crate) fn takes_many(&self) -> bool {
        matches!(self.inner, Transacting::Sqlite(_))
    }

    /// Runs many statements at once, in their order; gives how many rows each touched.
    pub(crate) async fn execute_many(&mut self, many: Vec<Bound>) -> sqlx::Result<Vec<u64>> {
        self.store.core.counters.queries(many.len());
        let done = self.inner.execute_many(many).await;
        self.store.noted(done)
    }

    pub(crate) async fn commit(self) -> sqlx::Result<()> {
        self.store.noted(self.inner.commit().await)?;
        self.store.core.counters.transactions(1);
        Ok(())
    }

    pub(crate) async fn rollback(self) {
        self.inner.rollback().await;
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

/// A text as it stands for itself in a pattern of `LIKE … ESCAPE '!'`.
pub(crate) fn literally(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '!' | '%' | '_') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern
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
