//! Plain statements. What every module of this crate uses; counted, and in both dialects.

use serde::Serialize;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Any, AssertSqlSafe, Decode, Row as _, Transaction, Type};

use crate::engine::dialect::unescaped;
use crate::{Dialect, Error, Result, Store};

/// A statement with its arguments.
pub(crate) type Query = sqlx::query::Query<'static, Any, AnyArguments>;

impl Store {
    /// A statement in this store's dialect (`crate::dialect` lists the words that it may use).
    /// Bind arguments with `.bind(…)`, then give it to [`Store::rows`] and its like.
    pub(crate) fn sql(&self, text: &'static str) -> Query {
        sql(self.core.dialect, text)
    }

    /// All rows of a read.
    pub(crate) async fn rows(&self, query: Query) -> Result<Vec<AnyRow>> {
        self.core.counters.queries(1);
        Ok(query.fetch_all(&self.core.readers).await?)
    }

    /// The only row of a read.
    pub(crate) async fn row(&self, query: Query) -> Result<Option<AnyRow>> {
        self.core.counters.queries(1);
        Ok(query.fetch_optional(&self.core.readers).await?)
    }

    /// A write of its own, durable when this returns; gives the number of rows it touched.
    pub(crate) async fn execute(&self, query: Query) -> Result<u64> {
        self.core.counters.queries(1);
        let done = query.execute(&self.core.writers).await?;
        self.core.counters.transactions(1);
        Ok(done.rows_affected())
    }

    /// A write of its own that returns rows (`… RETURNING …`), durable when this returns.
    pub(crate) async fn execute_returning(&self, query: Query) -> Result<Vec<AnyRow>> {
        self.core.counters.queries(1);
        let rows = query.fetch_all(&self.core.writers).await?;
        self.core.counters.transactions(1);
        Ok(rows)
    }

    /// A transaction that writes, outside of the commit queue: for tables without positions.
    /// On SQLite it keeps every other writer waiting, so do no other I/O inside.
    pub(crate) async fn begin(&self) -> Result<Tx> {
        let begin = self.core.dialect.begin();
        Ok(Tx {
            inner: self.core.writers.begin_with(begin).await?,
            store: self.clone(),
        })
    }
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
        query.fetch_all(&mut *self.inner).await
    }

    pub(crate) async fn row(&mut self, query: Query) -> sqlx::Result<Option<AnyRow>> {
        self.store.core.counters.queries(1);
        query.fetch_optional(&mut *self.inner).await
    }

    pub(crate) async fn execute(&mut self, query: Query) -> sqlx::Result<u64> {
        self.store.core.counters.queries(1);
        Ok(query.execute(&mut *self.inner).await?.rows_affected())
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

/// A statement in `dialect`.
pub(crate) fn sql(dialect: Dialect, text: &'static str) -> Query {
    sqlx::query(AssertSqlSafe(dialect.sql(text)))
}

/// Rows for `EACH($n)`: a JSON array of arrays. Text must be escaped already where it may hold U+0000.
pub(crate) fn json_rows<T: Serialize>(rows: &[T]) -> Result<String> {
    Ok(serde_json::to_string(rows)?)
}

/// A list of numbers for `EACH($n)`, as rows of one column.
pub(crate) fn json_numbers(numbers: impl IntoIterator<Item = i64>) -> String {
    let mut out = String::from("[");
    for number in numbers {
        if out.len() > 1 {
            out.push(',');
        }
        out.push('[');
        out.push_str(&number.to_string());
        out.push(']');
    }
    out.push(']');
    out
}

/// A list of texts from strangers for `EACH($n)`, escaped, as rows of one column.
pub(crate) fn json_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<String> {
    let rows: Vec<_> = texts
        .into_iter()
        .map(|text| (crate::engine::dialect::escaped(text),))
        .collect();
    json_rows(&rows)
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

/// A count as the databases have it.
pub(crate) fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Typed columns of a row, by index.
pub(crate) trait Columns {
    fn int(&self, index: usize) -> sqlx::Result<i64>;
    fn int_opt(&self, index: usize) -> sqlx::Result<Option<i64>>;
    /// Text as it is stored: JSON, or text of our own.
    fn raw(&self, index: usize) -> sqlx::Result<String>;
    fn raw_opt(&self, index: usize) -> sqlx::Result<Option<String>>;
    /// Text from strangers, unescaped.
    fn text(&self, index: usize) -> sqlx::Result<String>;
    fn text_opt(&self, index: usize) -> sqlx::Result<Option<String>>;
    fn bytes(&self, index: usize) -> sqlx::Result<Vec<u8>>;
    /// Text from strangers as an identifier that was valid when it was stored.
    fn id<T: TryFrom<String>>(&self, index: usize) -> Result<T>;
}

impl Columns for AnyRow {
    fn int(&self, index: usize) -> sqlx::Result<i64> {
        get(self, index)
    }
    fn int_opt(&self, index: usize) -> sqlx::Result<Option<i64>> {
        get(self, index)
    }
    fn raw(&self, index: usize) -> sqlx::Result<String> {
        get(self, index)
    }
    fn raw_opt(&self, index: usize) -> sqlx::Result<Option<String>> {
        get(self, index)
    }
    fn text(&self, index: usize) -> sqlx::Result<String> {
        self.raw(index).map(unescaped)
    }
    fn text_opt(&self, index: usize) -> sqlx::Result<Option<String>> {
        Ok(self.raw_opt(index)?.map(unescaped))
    }
    fn bytes(&self, index: usize) -> sqlx::Result<Vec<u8>> {
        get(self, index)
    }
    fn id<T: TryFrom<String>>(&self, index: usize) -> Result<T> {
        let text = self.text(index)?;
        T::try_from(text).map_err(|_| Error::broken("a stored identifier is not valid"))
    }
}

fn get<T: for<'r> Decode<'r, Any> + Type<Any>>(row: &AnyRow, index: usize) -> sqlx::Result<T> {
    row.try_get(index)
}
