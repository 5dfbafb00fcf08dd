//! A connection of its own, on which everything is read as of one moment.

use crate::engine::alone::{Alone, May};
use crate::engine::sql::{Columns as _, Nullable, Query, ReadRow};
use crate::{Dialect, Error, OpenError, Result};

/// A moment of a database.
#[derive(Debug)]
pub(super) struct Moment {
    dialect: Dialect,
    connection: Alone,
}

impl Moment {
    pub(super) async fn open(url: &str) -> Result<Self, OpenError> {
        let dialect = Dialect::of(url).ok_or(OpenError::Url)?;
        let connection = Alone::connect(&dialect.read_only_url(url), May::Read).await?;
        let mut moment = Self {
            dialect,
            connection,
        };
        moment.connection.run(dialect.setup_reading()).await?;
        moment.connection.run(dialect.begin_reading()).await?;
        Ok(moment)
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Ends this moment and begins another.
    pub(super) async fn renew(&mut self) -> Result<()> {
        // SQLite may have ended the transaction by itself.
        let _ = self.connection.run("ROLLBACK").await;
        Ok(self.connection.run(self.dialect.begin_reading()).await?)
    }

    pub(super) fn sql(&self, text: &'static str) -> Query {
        Query::new(self.dialect, text)
    }

    pub(super) async fn rows(&mut self, query: Query) -> Result<Vec<ReadRow>> {
        Ok(self.connection.rows(query).await?)
    }

    pub(super) async fn row(&mut self, query: Query) -> Result<Option<ReadRow>> {
        Ok(self.connection.row(query).await?)
    }

    /// One column of the only row of an answer.
    pub(super) async fn one<T: Nullable>(&mut self, query: Query, column: &str) -> Result<T> {
        let row = self.row(query).await?;
        let row = row.ok_or_else(|| Error::broken("an answer has no row"))?;
        row.get(column)
    }

    pub(super) async fn close(self) {
        self.connection.close().await;
    }
}
