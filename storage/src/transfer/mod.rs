//! From SQLite to PostgreSQL: all rows, by the one schema that both have (ADR 30).
//!
//! All of it is one transaction of PostgreSQL's, which locks every table first. Until it is committed nothing has happened
//! there, whatever ends it; afterwards all is there. So it is begun anew by doing it again, and no server sees half of it.
//! Before that each table is read back, and its rows are compared with those that were read from the file.
//!
//! Row numbers, positions, the epoch and what seals tokens are rows like any others: clients go on with the tokens that
//! they have. Only the index of words is made anew, by the server as it runs.

mod tables;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tokio::sync::mpsc;

use self::tables::Table;
use self::text::{Lines, Sum, write_row};
use crate::check::CheckProgress;
use crate::engine::alone::{Alone, May};
use crate::engine::migrate;
use crate::engine::sql::{Columns as _, Query};
use crate::{Dialect, Error, OpenError, Options};

/// So many bytes of rows go at a time, …
const PIECE: usize = 256 << 10;
/// … and so many of these wait at most.
const WAITING: usize = 4;

/// What the connection to PostgreSQL is told: nobody waits for it, and it waits for nobody for long.
const SETUP: &str = "SET lock_timeout = '30s'; SET statement_timeout = 0; \
    SET idle_in_transaction_session_timeout = 0; SET client_min_messages = warning; SET bytea_output = hex;";

/// Why a database can't be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// One of the two can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file is in use.
    #[error("the SQLite database is open: a server runs on it, or another command")]
    InUse,
    /// The PostgreSQL database is in use.
    #[error(
        "a server runs on the PostgreSQL database, or was killed on it within the last minutes"
    )]
    TargetInUse,
    /// Something is in the PostgreSQL database.
    #[error("the PostgreSQL database isn't empty: {0}")]
    NotEmpty(String),
    /// The two have other tables or columns.
    #[error("the databases have other forms: only one of them has {0}")]
    Schema(String),
    /// What came isn't what was sent.
    #[error(
        "of the table {table}, {there} rows are in PostgreSQL and {read} were read, or they are others"
    )]
    Differs {
        /// Which table.
        table: String,
        /// How many rows were read from SQLite.
        read: u64,
        /// How many came.
        there: u64,
    },
    /// One of the two fails.
    #[error(transparent)]
    Database(#[from] Error),
}

impl From<sqlx::Error> for TransferError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

type Result<T, E = TransferError> = std::result::Result<T, E>;

/// Rows of a table that are taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    /// Which table.
    pub table: String,
    /// How many rows it has.
    pub rows: u64,
}

/// A database that is taken over. Nothing has happened until [`Transfer::commit`].
#[derive(Debug)]
pub struct Transfer {
    from: Alone,
    to: Box<PgConnection>,
    tables: Vec<Table>,
}

impl Transfer {
    /// Opens both. The SQLite database must have today's schema, and nobody else may have it open until this is over; the
    /// other is given the schema, and must be empty. Everybody else waits who would read or write there.
    ///
    /// # Errors
    /// One can't be opened or is in use, or the PostgreSQL database isn't empty: then nothing was changed in it.
    pub async fn open(from: &str, to: &str) -> Result<Self> {
        if (Dialect::of(from), Dialect::of(to)) != (Some(Dialect::Sqlite), Some(Dialect::Postgres))
        {
            return Err(OpenError::Url.into());
        }
        let from = Dialect::Sqlite.existing_url(from);
        let mut from = Alone::connect(&from, May::Write).await?;
        let is_alone = match &from {
            Alone::Sqlite(file) => file.claim().await?,
            Alone::Postgres(_) => false,
        };
        if !is_alone {
            return Err(TransferError::InUse);
        }
        let mut empty = Alone::connect(to, May::Write).await?;
        empty.run(SETUP).await?;
        refuse_full(&mut empty).await?;
        let setup = Dialect::Postgres.setup(true, Options::MEMORY);
        migrate::run(to, Dialect::Postgres, &setup).await?;
        refuse_leased(&mut empty).await?;
        let tables = tables::of(&mut from, Dialect::Sqlite).await?;
        let of_target = tables::of(&mut empty, Dialect::Postgres).await?;
        tables::compare(&tables, &of_target)?;
        let Alone::Postgres(mut to) = empty else {
            return Err(OpenError::Url.into());
        };
        begin(&mut to, &tables).await?;
        Ok(Self { from, to, tables })
    }

    /// How many tables there are.
    pub fn count(&self) -> usize {
        self.tables.len()
    }

    /// The name of a table, of [`Transfer::count`].
    pub fn name(&self, at: usize) -> &str {
        self.tables.get(at).map_or("", |table| &*table.name)
    }

    /// Takes over a table, reads it back and compares.
    ///
    /// # Errors
    /// A database fails, or what came isn't what was sent.
    pub async fn table(&mut self, at: usize, progress: &Arc<CheckProgress>) -> Result<Transferred> {
        let Some(table) = self.tables.get(at).cloned() else {
            return Err(Error::broken("there is no such table").into());
        };
        let name = table.name.clone();
        if !table.is_taken() {
            return Ok(Transferred {
                table: name,
                rows: 0,
            });
        }
        let count = format!("SELECT COUNT(*) AS count FROM {}", table.quoted());
        progress.begin(2 * self.count_rows(count).await?);
        let read = self.copy(&table, progress).await?;
        let there = self.read_back(&table, progress).await?;
        if read != there {
            return Err(TransferError::Differs {
                table: name,
                read: read.rows,
                there: there.rows,
            });
        }
        let rows = read.rows;
        Ok(Transferred { table: name, rows })
    }

    async fn count_rows(&self, statement: String) -> Result<u64> {
        let Alone::Sqlite(file) = &self.from else {
            return Err(OpenError::Url.into());
        };
        let counted = file.fold(statement, 0_i64, |count, row| {
            *count = row.get(0)?;
            Ok(true)
        });
        Ok(u64::try_from(counted.await?).unwrap_or(0))
    }

    /// Sends the rows of a table.
    async fn copy(&mut self, table: &Table, progress: &Arc<CheckProgress>) -> Result<Sum> {
        let Alone::Sqlite(file) = &self.from else {
            return Err(OpenError::Url.into());
        };
        let (name, columns) = (table.quoted(), table.columns());
        let (sender, mut pieces) = mpsc::channel(WAITING);
        let width = table.columns.len();
        let sending = Sending::new(sender);
        let statement = format!("SELECT {columns} FROM {name}");
        let reading = file.fold(statement, sending, move |sending, row| {
            sending.row(|into| write_row(row, width, into))
        });
        let reading = async { Ok::<Sum, sqlx::Error>(reading.await?.end().await) };
        let to = &mut self.to;
        let writing = async move {
            let statement = format!("COPY {name} ({columns}) FROM STDIN");
            let mut copy = to.copy_in_raw(&statement).await?;
            while let Some((piece, rows)) = pieces.recv().await {
                copy.send(piece).await?;
                progress.add(rows);
            }
            copy.finish().await
        };
        let (read, written) = tokio::join!(Box::pin(reading), Box::pin(writing));
        // If only writing failed, reading has merely stopped.
        let read = read?;
        let written = written?;
        if written != read.rows {
            return Err(TransferError::Differs {
                table: table.name.clone(),
                read: read.rows,
                there: written,
            });
        }
        Ok(read)
    }

    /// What the rows of a table come to in PostgreSQL.
    async fn read_back(&mut self, table: &Table, progress: &Arc<CheckProgress>) -> Result<Sum> {
        let (name, columns) = (table.quoted(), table.columns());
        let statement = format!("COPY {name} ({columns}) TO STDOUT");
        let mut pieces = Box::pin(self.to.copy_out_raw(&statement)).await?;
        let mut lines = Lines::default();
        while let Some(piece) = pieces.try_next().await? {
            let before = lines.sum.rows;
            lines.take(&piece);
            let rows = lines.sum.rows - before;
            progress.add(usize::try_from(rows).unwrap_or(usize::MAX));
        }
        let sum = lines.end();
        sum.ok_or_else(|| Error::broken("the rows that came back have no end").into())
    }

    /// Makes all of it so, durable when this returns, and has PostgreSQL count what is in its tables.
    ///
    /// # Errors
    /// PostgreSQL fails. If that was while it made it so, nobody knows whether it is.
    pub async fn commit(mut self) -> Result<()> {
        // On SQLite a process takes leases for good. Their fences stay: what is written goes by them.
        let leases = "UPDATE lease SET until = 0; DELETE FROM sender_lease; COMMIT";
        run(&mut self.to, leases.to_owned()).await?;
        // Plans go by it. If it fails, autovacuum comes to it.
        if let Err(error) = run(&mut self.to, "ANALYZE".to_owned()).await {
            tracing::warn!(%error, "PostgreSQL couldn't count what is in its tables");
        }
        self.close().await;
        Ok(())
    }

    /// Ends it. What wasn't committed is as if it had never been.
    pub async fn close(self) {
        Alone::Postgres(self.to).close().await;
        self.from.close().await;
    }
}

/// Some rows, and how many they are.
type Piece = (Vec<u8>, usize);

/// Rows on their way, in pieces.
struct Sending {
    sender: mpsc::Sender<Piece>,
    piece: Vec<u8>,
    rows: usize,
    sum: Sum,
}

impl Sending {
    fn new(sender: mpsc::Sender<Piece>) -> Self {
        Self {
            sender,
            piece: Vec::new(),
            rows: 0,
            sum: Sum::default(),
        }
    }

    /// One row more; `false` if nobody takes them any longer.
    fn row(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<bool> {
        let begin = self.piece.len();
        write(&mut self.piece)?;
        let line = self.piece.get(begin..self.piece.len() - 1);
        self.sum.add(line.unwrap_or_default());
        self.rows += 1;
        Ok(self.piece.len() < PIECE || self.send())
    }

    /// By a thread of SQLite's, which may wait.
    fn send(&mut self) -> bool {
        let piece = std::mem::take(&mut self.piece);
        let rows = std::mem::take(&mut self.rows);
        self.sender.blocking_send((piece, rows)).is_ok()
    }

    /// Sends what is left, and says what all of them came to.
    async fn end(self) -> Sum {
        if self.rows > 0 {
            // Who doesn't take them any longer says why.
            let _ = self.sender.send((self.piece, self.rows)).await;
        }
        self.sum
    }
}

/// Nothing of another's may be in the database, nor of a server's.
async fn refuse_full(to: &mut Alone) -> Result<()> {
    let ask = |text| Query::new(Dialect::Postgres, text);
    let tables = "SELECT COUNT(*) AS count FROM pg_tables WHERE schemaname = current_schema()";
    if count(to, ask(tables)).await? == 0 {
        return Ok(());
    }
    if count(to, ask(Dialect::Postgres.count_migration_tables())).await? == 0 {
        let whose = "it has tables that aren't this server's";
        return Err(TransferError::NotEmpty(whose.to_owned()));
    }
    for (rows, what) in [
        (
            "SELECT pos AS count FROM counter WHERE id = 1",
            "a server has written to its log",
        ),
        (
            "SELECT COUNT(*) AS count FROM room",
            "there are rooms in it",
        ),
        (
            "SELECT COUNT(*) AS count FROM account",
            "there are accounts in it",
        ),
        (
            "SELECT COUNT(*) AS count FROM server_name",
            "it knows of servers",
        ),
    ] {
        if count(to, ask(rows)).await? > 0 {
            return Err(TransferError::NotEmpty(what.to_owned()));
        }
    }
    Ok(())
}

/// Nor may a server run on it.
async fn refuse_leased(to: &mut Alone) -> Result<()> {
    let leases = "SELECT COUNT(*) AS count FROM lease WHERE until > NOW_MS";
    if count(to, Query::new(Dialect::Postgres, leases)).await? > 0 {
        return Err(TransferError::TargetInUse);
    }
    Ok(())
}

async fn count(connection: &mut Alone, query: Query) -> Result<i64> {
    let row = connection.row(query).await?;
    let row = row.ok_or_else(|| Error::broken("an answer has no row"))?;
    Ok(row.get("count")?)
}

/// Begins the transaction. What migrations have put into the tables goes.
async fn begin(to: &mut PgConnection, tables: &[Table]) -> Result<()> {
    run(to, "BEGIN".to_owned()).await?;
    let names: Vec<_> = tables.iter().map(Table::quoted).collect();
    // It locks them, so that no server starts meanwhile.
    run(to, format!("TRUNCATE {}, search", names.join(", "))).await?;
    let upto = "INSERT INTO search_upto (id, live, back) VALUES (1, 0, 0)";
    run(to, upto.to_owned()).await
}

async fn run(to: &mut PgConnection, statements: String) -> Result<()> {
    let statements = sqlx::raw_sql(AssertSqlSafe(statements));
    Box::pin(to.execute(statements)).await?;
    Ok(())
}
