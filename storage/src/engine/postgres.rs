//! A PostgreSQL: connections that read, that write, and the commit queue's.
//!
//! What sqlx does for a statement takes kilobytes while it is under way: too much to be part of all that asks. A statement
//! outside of transactions is a task of its own: it comes to its end, and gives its connection back, whether or not somebody
//! looks at what it is part of. Of several futures of which one is looked at at a time, those that aren't would otherwise
//! hold all connections, and the one that is would wait for one.

use std::str::FromStr as _;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgExecutor, PgPool, Postgres, Transaction,
};

use crate::engine::failover;
use crate::engine::sql::{Query, ReadRow};
use crate::engine::task::to_its_end;
use crate::{Dialect, OpenError, Options, Pool};

/// How many connections the commit queue has: it makes one transaction at a time.
const COMMITTERS: u32 = 1;
/// So many statements stay prepared on each, if the address says nothing else.
const STATEMENTS: usize = 200;

/// Connections to a PostgreSQL.
#[derive(Debug)]
pub(crate) struct Pools {
    pub(crate) readers: PgPool,
    pub(crate) writers: PgPool,
    /// The commit queue's.
    pub(crate) committers: PgPool,
}

impl Pools {
    /// Connects to a database whose schema is up to date.
    pub(crate) async fn open(options: &Options) -> Result<Self, OpenError> {
        let dialect = Dialect::Postgres;
        let (url, most) = (&options.url, options.max_connections);
        let setup = dialect.setup(options.is_durable(), options.memory);
        let for_commits = format!("{setup}{}", dialect.setup_commits());
        let writers = (most / 3).clamp(2, 8);
        let readers = most.saturating_sub(writers + COMMITTERS).max(2);
        Ok(Self {
            readers: connect(url, readers, &setup).await?,
            writers: connect(url, writers, &setup).await?,
            committers: connect(url, COMMITTERS, &for_commits).await?,
        })
    }

    /// All rows of a read.
    pub(crate) fn rows(
        &self,
        query: Query,
    ) -> impl Future<Output = sqlx::Result<Vec<ReadRow>>> + Send + use<> {
        let pool = self.readers.clone();
        to_its_end(async move { rows(query, &pool).await })
    }

    /// The only row of a read.
    pub(crate) fn row(
        &self,
        query: Query,
    ) -> impl Future<Output = sqlx::Result<Option<ReadRow>>> + Send + use<> {
        let pool = self.readers.clone();
        to_its_end(async move { row(query, &pool).await })
    }

    /// A write of its own, durable when this returns; gives the number of rows it touched.
    pub(crate) fn execute(
        &self,
        query: Query,
    ) -> impl Future<Output = sqlx::Result<u64>> + Send + use<> {
        let pool = self.writers.clone();
        to_its_end(async move { execute(query, &pool).await })
    }

    /// The same, of one that returns rows.
    pub(crate) fn execute_returning(
        &self,
        query: Query,
    ) -> impl Future<Output = sqlx::Result<Vec<ReadRow>>> + Send + use<> {
        let pool = self.writers.clone();
        to_its_end(async move { rows(query, &pool).await })
    }

    /// A transaction that writes: the commit queue's, or another.
    pub(crate) async fn begin(&self, for_commit: bool) -> sqlx::Result<PostgresTx> {
        let pool = if for_commit {
            self.committers.clone()
        } else {
            self.writers.clone()
        };
        // sqlx's PostgreSQL driver forgets of a transaction whose beginning nobody waits for any longer that it has begun: what
        // the next one writes by that connection, outside of any transaction as they think, would be in it, and be durable
        // or not as whoever has the connection after them commits or doesn't.
        let begun = to_its_end(async move { pool.begin().await });
        Ok(PostgresTx(begun.await?))
    }

    /// The connections that read, that write, and the commit queue's.
    pub(crate) fn pools(&self) -> [Pool; 3] {
        let of = |name, pool: &PgPool| Pool {
            name,
            open: usize::try_from(pool.size()).unwrap_or(usize::MAX),
            busy: (usize::try_from(pool.size()).unwrap_or(usize::MAX))
                .saturating_sub(pool.num_idle()),
            most: usize::try_from(pool.options().get_max_connections()).unwrap_or(usize::MAX),
            waiting: 0,
        };
        [
            of("read", &self.readers),
            of("write", &self.writers),
            of("commit", &self.committers),
        ]
    }

    /// Closes every connection. Later calls fail.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
        self.committers.close().await;
    }
}

/// A transaction; dropping it undoes everything.
pub(crate) struct PostgresTx(Transaction<'static, Postgres>);

impl PostgresTx {
    pub(crate) fn rows(&mut self, query: Query) -> BoxFuture<'_, sqlx::Result<Vec<ReadRow>>> {
        Box::pin(rows(query, &mut *self.0))
    }

    pub(crate) fn row(&mut self, query: Query) -> BoxFuture<'_, sqlx::Result<Option<ReadRow>>> {
        Box::pin(row(query, &mut *self.0))
    }

    pub(crate) fn execute(&mut self, query: Query) -> BoxFuture<'_, sqlx::Result<u64>> {
        Box::pin(execute(query, &mut *self.0))
    }

    pub(crate) async fn commit(self) -> sqlx::Result<()> {
        Box::pin(self.0.commit()).await
    }

    pub(crate) async fn rollback(self) {
        // If this fails the connection is gone, and the transaction with it.
        drop(Box::pin(self.0.rollback()).await);
    }
}

/// All rows of a statement.
pub(super) async fn rows(query: Query, on: impl PgExecutor<'_>) -> sqlx::Result<Vec<ReadRow>> {
    let rows = query.ready()?.fetch_all(on).await?;
    Ok(rows.into_iter().map(ReadRow::of_postgres).collect())
}

/// Its only row.
pub(super) async fn row(query: Query, on: impl PgExecutor<'_>) -> sqlx::Result<Option<ReadRow>> {
    let row = query.ready()?.fetch_optional(on).await?;
    Ok(row.map(ReadRow::of_postgres))
}

async fn execute(query: Query, on: impl PgExecutor<'_>) -> sqlx::Result<u64> {
    Ok(query.ready()?.execute(on).await?.rows_affected())
}

async fn connect(url: &str, connections: u32, setup: &str) -> Result<PgPool, OpenError> {
    let setup = setup.to_owned();
    let mut named = PgConnectOptions::from_str(url)?;
    if !url.contains("statement-cache-capacity=") {
        named = named.statement_cache_capacity(STATEMENTS);
    }
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(30))
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if connection.is_in_transaction() {
                    return Ok(false);
                }
                failover::may_be_used(connection, meta.age).await
            })
        })
        .after_connect(move |connection, _| {
            let setup = sqlx::raw_sql(AssertSqlSafe(setup.clone()));
            Box::pin(async move { connection.execute(setup).await.map(drop) })
        })
        .connect_with(named)
        .await?;
    Ok(pool)
}
