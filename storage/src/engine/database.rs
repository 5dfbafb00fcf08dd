//! The database of a store: an SQLite file with threads of our own, or connections to a PostgreSQL.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Any, AnyPool, AssertSqlSafe, Connection as _, Executor as _, Transaction};

use crate::engine::sql::{Bound, Query, ReadRow};
use crate::engine::sqlite::{Sqlite, SqliteTx};
use crate::engine::{failover, migrate};
use crate::{Dialect, OpenError, Options};

/// How many connections the commit queue has where others may write beside it: it makes one transaction at a time.
const COMMITTERS: u32 = 1;

/// A database that is open.
#[derive(Debug)]
pub(crate) enum Database {
    Sqlite(Sqlite),
    Postgres(Pools),
}

/// Connections to a PostgreSQL.
#[derive(Debug)]
pub(crate) struct Pools {
    pub(crate) readers: AnyPool,
    pub(crate) writers: AnyPool,
    /// The commit queue's.
    pub(crate) committers: AnyPool,
}

/// A transaction; dropping it undoes everything.
pub(crate) enum Transacting {
    Sqlite(SqliteTx),
    Postgres(Transaction<'static, Any>),
}

impl Database {
    /// Opens a database and brings its schema up to date.
    pub(crate) async fn open(options: &Options, dialect: Dialect) -> Result<Self, OpenError> {
        sqlx::any::install_default_drivers();
        let setup = dialect.setup(options.is_durable(), options.memory);
        let writers = dialect.writers(options.max_connections);
        let readers = options.max_connections.saturating_sub(writers + COMMITTERS);
        let readers = readers.max(2);
        match dialect {
            Dialect::Sqlite => {
                let url = dialect.written_url(&options.url);
                if !is_a_file(&url) {
                    return Err(OpenError::NoFile);
                }
                let pool = connect(&url, dialect, 1, &setup).await?;
                let migrated = migrate::run(&pool, dialect).await;
                pool.close().await;
                migrated?;
                let named = SqliteConnectOptions::from_str(&url)?;
                let sqlite = Sqlite::new(
                    named.get_filename(),
                    &setup,
                    &Dialect::setup_writing(options.memory),
                    readers,
                );
                Ok(Self::Sqlite(sqlite))
            }
            Dialect::Postgres => {
                let url = &options.url;
                let for_commits = format!("{setup}{}", dialect.setup_commits());
                let writers = connect(url, dialect, writers, &setup).await?;
                let committers = connect(url, dialect, COMMITTERS, &for_commits).await?;
                migrate::run(&writers, dialect).await?;
                let readers = connect(url, dialect, readers, &setup).await?;
                Ok(Self::Postgres(Pools {
                    readers,
                    writers,
                    committers,
                }))
            }
        }
    }

    /// All rows of a read.
    pub(crate) async fn rows(&self, query: Query) -> sqlx::Result<Vec<ReadRow>> {
        match self {
            Self::Sqlite(sqlite) => sqlite.rows(query.bound()?, usize::MAX).await,
            Self::Postgres(pools) => {
                let rows = query.ready()?.fetch_all(&pools.readers).await?;
                Ok(rows.into_iter().map(ReadRow::Any).collect())
            }
        }
    }

    /// The only row of a read.
    pub(crate) async fn row(&self, query: Query) -> sqlx::Result<Option<ReadRow>> {
        match self {
            Self::Sqlite(sqlite) => Ok(sqlite.rows(query.bound()?, 1).await?.pop()),
            Self::Postgres(pools) => {
                let row = query.ready()?.fetch_optional(&pools.readers).await?;
                Ok(row.map(ReadRow::Any))
            }
        }
    }

    /// A write of its own, durable when this returns; gives the number of rows it touched.
    pub(crate) async fn execute(&self, query: Query) -> sqlx::Result<u64> {
        match self {
            Self::Sqlite(sqlite) => sqlite.execute(query.bound()?).await,
            Self::Postgres(pools) => {
                let done = query.ready()?.execute(&pools.writers).await?;
                Ok(done.rows_affected())
            }
        }
    }

    /// The same, of one that returns rows.
    pub(crate) async fn execute_returning(&self, query: Query) -> sqlx::Result<Vec<ReadRow>> {
        match self {
            Self::Sqlite(sqlite) => sqlite.execute_returning(query.bound()?).await,
            Self::Postgres(pools) => {
                let rows = query.ready()?.fetch_all(&pools.writers).await?;
                Ok(rows.into_iter().map(ReadRow::Any).collect())
            }
        }
    }

    /// A transaction that writes: the commit queue's, or another.
    pub(crate) async fn begin(&self, for_commit: bool) -> sqlx::Result<Transacting> {
        match self {
            Self::Sqlite(sqlite) => Ok(Transacting::Sqlite(sqlite.begin().await?)),
            Self::Postgres(pools) => {
                let pool = if for_commit {
                    pools.committers.clone()
                } else {
                    pools.writers.clone()
                };
                let begun = to_its_end(async move { pool.begin().await }).await?;
                Ok(Transacting::Postgres(begun))
            }
        }
    }

    /// Closes every connection. Later calls fail.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(pools) => {
                pools.readers.close().await;
                pools.writers.close().await;
                pools.committers.close().await;
            }
        }
    }
}

impl Transacting {
    pub(crate) async fn rows(&mut self, query: Query) -> sqlx::Result<Vec<ReadRow>> {
        match self {
            Self::Sqlite(tx) => tx.rows(query.bound()?, usize::MAX).await,
            Self::Postgres(tx) => {
                let rows = query.ready()?.fetch_all(&mut **tx).await?;
                Ok(rows.into_iter().map(ReadRow::Any).collect())
            }
        }
    }

    pub(crate) async fn row(&mut self, query: Query) -> sqlx::Result<Option<ReadRow>> {
        match self {
            Self::Sqlite(tx) => Ok(tx.rows(query.bound()?, 1).await?.pop()),
            Self::Postgres(tx) => {
                let row = query.ready()?.fetch_optional(&mut **tx).await?;
                Ok(row.map(ReadRow::Any))
            }
        }
    }

    pub(crate) async fn execute(&mut self, query: Query) -> sqlx::Result<u64> {
        match self {
            Self::Sqlite(tx) => tx.execute(query.bound()?).await,
            Self::Postgres(tx) => {
                let done = query.ready()?.execute(&mut **tx).await?;
                Ok(done.rows_affected())
            }
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
            // If this fails the connection is gone, and the transaction with it.
            Self::Postgres(tx) => drop(tx.rollback().await),
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

async fn connect(
    url: &str,
    dialect: Dialect,
    connections: u32,
    setup: &str,
) -> Result<AnyPool, OpenError> {
    let setup = setup.to_owned();
    let pool = AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(30))
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .before_acquire(move |connection, meta| {
            Box::pin(async move {
                let free = !connection.is_in_transaction();
                if !free || dialect == Dialect::Sqlite {
                    return Ok(free);
                }
                failover::may_be_used(connection, meta.age).await
            })
        })
        .after_connect(move |connection, _| {
            let setup = sqlx::raw_sql(AssertSqlSafe(setup.clone()));
            Box::pin(async move { connection.execute(setup).await.map(drop) })
        })
        .connect(url)
        .await?;
    Ok(pool)
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
