//! The database of a store: an SQLite file with threads of our own, or connections to a PostgreSQL.

use std::str::FromStr as _;

use sqlx::sqlite::SqliteConnectOptions;

use crate::engine::migrate;
use crate::engine::postgres::{Pools, PostgresTx};
use crate::engine::sql::{Bound, Query, ReadRow};
use crate::engine::sqlite::{Sqlite, SqliteTx};
use crate::{Dialect, OpenError, Options};

/// A database that is open.
#[derive(Debug)]
pub(crate) enum Database {
    Sqlite(Sqlite),
    Postgres(Pools),
}

/// A transaction; dropping it undoes everything.
pub(crate) enum Transacting {
    Sqlite(SqliteTx),
    Postgres(PostgresTx),
}

impl Database {
    /// Opens a database and brings its schema up to date.
    pub(crate) async fn open(options: &Options, dialect: Dialect) -> Result<Self, OpenError> {
        let url = dialect.written_url(&options.url);
        if dialect == Dialect::Sqlite && !is_a_file(&url) {
            return Err(OpenError::NoFile);
        }
        let setup = dialect.setup(options.is_durable(), options.memory);
        migrate::run(&url, dialect, &setup).await?;
        match dialect {
            Dialect::Sqlite => {
                let named = SqliteConnectOptions::from_str(&url)?;
                let sqlite = Sqlite::new(
                    named.get_filename(),
                    &setup,
                    &Dialect::setup_writing(options.memory),
                    options.max_connections.saturating_sub(2).max(2),
                );
                Ok(Self::Sqlite(sqlite))
            }
            Dialect::Postgres => Ok(Self::Postgres(Pools::open(options).await?)),
        }
    }

    /// All rows of a read.
    pub(crate) async fn rows(&self, query: Query) -> sqlx::Result<Vec<ReadRow>> {
        match self {
            Self::Sqlite(sqlite) => sqlite.rows(query.bound()?, usize::MAX).await,
            Self::Postgres(pools) => pools.rows(query).await,
        }
    }

    /// All rows of a read, and of another that follows from them. `then` mustn't wait for anything.
    pub(crate) async fn rows_then(
        &self,
        query: Query,
        then: impl FnOnce(&[ReadRow]) -> Option<Query> + Send + 'static,
    ) -> sqlx::Result<(Vec<ReadRow>, Option<Vec<ReadRow>>)> {
        match self {
            Self::Sqlite(sqlite) => {
                let then = move |rows: &[ReadRow]| then(rows).map(Query::bound).transpose();
                sqlite.rows_then(query.bound()?, then).await
            }
            Self::Postgres(pools) => {
                let first = pools.rows(query).await?;
                let next = then(&first);
                let more = match next {
                    Some(query) => Some(pools.rows(query).await?),
                    None => None,
                };
                Ok((first, more))
            }
        }
    }

    /// The only row of a read.
    pub(crate) async fn row(&self, query: Query) -> sqlx::Result<Option<ReadRow>> {
        match self {
            Self::Sqlite(sqlite) => Ok(sqlite.rows(query.bound()?, 1).await?.pop()),
            Self::Postgres(pools) => pools.row(query).await,
        }
    }

    /// A write of its own, durable when this returns; gives the number of rows it touched.
    pub(crate) async fn execute(&self, query: Query) -> sqlx::Result<u64> {
        match self {
            Self::Sqlite(sqlite) => sqlite.execute(query.bound()?).await,
            Self::Postgres(pools) => pools.execute(query).await,
        }
    }

    /// The same, of one that returns rows.
    pub(crate) async fn execute_returning(&self, query: Query) -> sqlx::Result<Vec<ReadRow>> {
        match self {
            Self::Sqlite(sqlite) => sqlite.execute_returning(query.bound()?).await,
            Self::Postgres(pools) => pools.execute_returning(query).await,
        }
    }

    /// A transaction that writes: the commit queue's, or another.
    pub(crate) async fn begin(&self, for_commit: bool) -> sqlx::Result<Transacting> {
        match self {
            Self::Sqlite(sqlite) => Ok(Transacting::Sqlite(sqlite.begin().await?)),
            Self::Postgres(pools) => Ok(Transacting::Postgres(pools.begin(for_commit).await?)),
        }
    }

    /// Closes every connection. Later calls fail.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(pools) => pools.close().await,
        }
    }
}

impl Transacting {
    pub(crate) async fn rows(&mut self, query: Query) -> sqlx::Result<Vec<ReadRow>> {
        match self {
            Self::Sqlite(tx) => tx.rows(query.bound()?, usize::MAX).await,
            Self::Postgres(tx) => tx.rows(query).await,
        }
    }

    pub(crate) async fn row(&mut self, query: Query) -> sqlx::Result<Option<ReadRow>> {
        match self {
            Self::Sqlite(tx) => Ok(tx.rows(query.bound()?, 1).await?.pop()),
            Self::Postgres(tx) => tx.row(query).await,
        }
    }

    pub(crate) async fn execute(&mut self, query: Query) -> sqlx::Result<u64> {
        match self {
            Self::Sqlite(tx) => tx.execute(query.bound()?).await,
            Self::Postgres(tx) => tx.execute(query).await,
        }
    }

    /// Runs many statements at once, in their order; gives how many rows each touched. Only SQLite takes them.
    pub(crate) async fn execute_many(&mut self, many: Vec<Bound>) -> sqlx::Result<Vec<u64>> {
        match self {
            Self::Sqlite(tx) => tx.execute_many(many).await,
            Self::Postgres(_) => Err(sqlx::Error::Protocol("one at a time".to_owned())),
        }
    }

    pub(crate) async fn commit(self) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
    }

    pub(crate) async fn rollback(self) {
        match self {
            Self::Sqlite(tx) => drop(tx),
            Self::Postgres(tx) => tx.rollback().await,
        }
    }
}

/// Whether an SQLite URL names a file, and it may be written.
fn is_a_file(url: &str) -> bool {
    let (path, parameters) = url.split_once('?').unwrap_or((url, ""));
    let mut parameters = parameters.split('&');
    let is_written = |parameter: &str| match parameter.split_once('=') {
        Some(("mode", mode)) => matches!(mode, "rw" | "rwc"),
        Some((name, _)) => name != "immutable",
        None => true,
    };
    !path.ends_with(":memory:") && parameters.all(is_written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_is_written_will_do() {
        for url in [
            "sqlite:a.db",
            "sqlite:/mode=ro/a.db?mode=rwc",
            "sqlite://a.db?cache=private",
        ] {
            assert!(is_a_file(url), "{url}");
        }
        for url in [
            "sqlite::memory:",
            "sqlite:a.db?mode=ro",
            "sqlite:a.db?mode=memory",
            "sqlite:a.db?mode=rw&immutable=true",
        ] {
            assert!(!is_a_file(url), "{url}");
        }
    }
}
