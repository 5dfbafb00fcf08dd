//! A connection of its own, on which everything is read as of one moment.

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};

use crate::engine::sql::{Columns as _, Nullable, Query, ReadRow};
use crate::{Dialect, Error, OpenError, Result};

/// A moment of a database.
#[derive(Debug)]
pub(super) struct Moment {
    dialect: Dialect,
    connection: AnyConnection,
}

impl Moment {
    pub(super) async fn open(url: &str) -> Result<Self, OpenError> {
        let dialect = Dialect::of(url).ok_or(OpenError::Url)?;
        sqlx::any::install_default_drivers();
        let connection = AnyConnection::connect(&dialect.read_only_url(url)).await?;
        let mut moment = Self {
            dialect,
            connection,
        };
        moment.run(dialect.setup_reading()).await?;
        moment.run(dialect.begin_reading()).await?;
        Ok(moment)
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Ends this moment and begins another.
    pub(super) async fn renew(&mut self) -> Result<()> {
        // SQLite may have ended the transaction by itself.
        let _ = self.run("ROLLBACK").await;
        Ok(self.run(self.dialect.begin_reading()).await?)
    }

    async fn run(&mut self, statement: &'static str) -> sqlx::Result<()> {
        let statement = sqlx::raw_sql(AssertSqlSafe(statement));
        self.connection.execute(statement).await.map(drop)
    }

    pub(super) fn sql(&self, text: &'static str) -> Query {
        Query::new(self.dialect, text)
    }

    pub(super) async fn rows(&mut self, query: Query) -> Result<Vec<ReadRow>> {
        let rows = query.ready()?.fetch_all(&mut self.connection).await?;
        Ok(rows.into_iter().map(ReadRow::Any).collect())
    }

    pub(super) async fn row(&mut self, query: Query) -> Result<Option<ReadRow>> {
        let row = query.ready()?.fetch_optional(&mut self.connection).await?;
        Ok(row.map(ReadRow::Any))
    }

    /// One column of the only row of an answer.
    pub(super) async fn one<T: Nullable>(&mut self, query: Query, column: &str) -> Result<T> {
        let row = self.row(query).await?;
        let row = row.ok_or_else(|| Error::broken("an answer has no row"))?;
        row.get(column)
    }

    pub(super) async fn close(self) {
        // What it has read is all that there is of it.
        let _ = self.connection.close().await;
    }
}
