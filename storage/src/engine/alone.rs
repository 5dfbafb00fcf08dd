//! A connection of one's own, apart from a store's.

use std::str::FromStr as _;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::engine::postgres;
use crate::engine::sql::{Query, ReadRow};
use crate::engine::sqlite::SqliteAlone;
use crate::{Dialect, OpenError};

/// What may be done by a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum May {
    Read,
    Write,
}

/// A connection, which lasts until it is closed.
#[derive(Debug)]
pub(crate) enum Alone {
    Sqlite(SqliteAlone),
    Postgres(Box<PgConnection>),
}

impl Alone {
    /// Connects to a database that is there.
    pub(crate) async fn connect(url: &str, may: May) -> Result<Self, OpenError> {
        match Dialect::of(url).ok_or(OpenError::Url)? {
            Dialect::Sqlite => {
                let named = SqliteConnectOptions::from_str(url)?;
                let opened = SqliteAlone::open(named.get_filename(), may == May::Read).await?;
                Ok(Self::Sqlite(opened))
            }
            Dialect::Postgres => {
                let connection = PgConnection::connect(url).await?;
                Ok(Self::Postgres(Box::new(connection)))
            }
        }
    }

    /// Runs statements, whose rows don't matter.
    pub(crate) async fn run(&mut self, statements: impl Into<String>) -> sqlx::Result<()> {
        let statements = statements.into();
        match self {
            Self::Sqlite(sqlite) => sqlite.run(statements).await,
            Self::Postgres(postgres) => {
                let statements = sqlx::raw_sql(AssertSqlSafe(statements));
                postgres.execute(statements).await.map(drop)
            }
        }
    }

    /// All rows of a statement.
    pub(crate) async fn rows(&mut self, query: Query) -> sqlx::Result<Vec<ReadRow>> {
        match self {
            Self::Sqlite(sqlite) => sqlite.rows(query.bound()?, usize::MAX).await,
            Self::Postgres(connection) => postgres::rows(query, &mut **connection).await,
        }
    }

    /// Its only row.
    pub(crate) async fn row(&mut self, query: Query) -> sqlx::Result<Option<ReadRow>> {
        match self {
            Self::Sqlite(sqlite) => Ok(sqlite.rows(query.bound()?, 1).await?.pop()),
            Self::Postgres(connection) => postgres::row(query, &mut **connection).await,
        }
    }

    pub(crate) async fn close(self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            // All that it did is durable, or was only read.
            Self::Postgres(postgres) => drop(postgres.close().await),
        }
    }
}
