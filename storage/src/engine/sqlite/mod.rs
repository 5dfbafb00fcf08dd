//! An SQLite file: one thread that writes, and some that read.

mod alone;
mod checkpoint;
mod copy;
mod error;
mod lane;
mod opening;
mod statement;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::checkpoint::Checkpoints;
use self::error::driver_error;
use self::lane::Lane;
use self::opening::Opening;
use self::statement::{execute, rows};
use crate::Pool;
use crate::engine::sql::{Bound, ReadRow};
use crate::engine::task::to_its_end;
pub(crate) use alone::SqliteAlone;

/// For so long somebody waits for their turn to write, or until they are read to.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many statements stay prepared where it is read, …
const READ_STATEMENTS: usize = 100;
/// … and where it is written.
const WRITE_STATEMENTS: usize = 200;

/// A file with its threads.
#[derive(Debug)]
pub(crate) struct Sqlite {
    readers: Lane,
    writer: Arc<Writer>,
    checkpoints: Arc<Checkpoints>,
}

/// The thread that writes.
#[derive(Debug)]
struct Writer {
    lane: Lane,
    /// Whose turn it is: one statement's or one transaction's at a time.
    turn: Arc<Semaphore>,
}

impl Sqlite {
    /// A file that is there. `setup` is what each connection is told first, `of_writer` what the one that writes is told
    /// besides.
    pub(crate) fn new(file: &Path, setup: &str, of_writer: &str, readers: u32) -> Self {
        let reading = Opening {
            file: file.to_owned(),
            setup: setup.to_owned(),
            only_read: false,
            statements: READ_STATEMENTS,
            care: None,
        };
        let checkpoints = Arc::new(Checkpoints::new(reading.clone()));
        let writing = Opening {
            file: file.to_owned(),
            setup: format!("{setup}{of_writer}"),
            only_read: false,
            statements: WRITE_STATEMENTS,
            care: Some(checkpoints.clone()),
        };
        let readers = usize::try_from(readers).unwrap_or(1);
        Self {
            readers: Lane::new("sqlite-reads", readers, reading),
            writer: Arc::new(Writer {
                lane: Lane::new("sqlite-writes", 1, writing),
                turn: Arc::new(Semaphore::new(1)),
            }),
            checkpoints,
        }
    }

    /// All rows of a read, or the first ones.
    pub(crate) async fn rows(&self, bound: Bound, most: usize) -> sqlx::Result<Vec<ReadRow>> {
        let read = move |connection: &mut Connection| rows(&bound, connection, most);
        self.readers.run_soon(PATIENCE, read).await
    }

    /// All rows of a read, and of another that follows from them: one way to a thread and back.
    pub(crate) async fn rows_then(
        &self,
        bound: Bound,
        then: impl FnOnce(&[ReadRow]) -> sqlx::Result<Option<Bound>> + Send + 'static,
    ) -> sqlx::Result<(Vec<ReadRow>, Option<Vec<ReadRow>>)> {
        let read = move |connection: &mut Connection| {
            let first = rows(&bound, connection, usize::MAX)?;
            let more = match then(&first)? {
                Some(bound) => Some(rows(&bound, connection, usize::MAX)?),
                None => None,
            };
            Ok((first, more))
        };
        self.readers.run_soon(PATIENCE, read).await
    }

    /// A write of its own, durable when this returns; gives the number of rows that it touched.
    pub(crate) async fn execute(&self, bound: Bound) -> sqlx::Result<u64> {
        self.write(move |connection| execute(&bound, connection))
            .await
    }

    /// The same, of one that returns rows.
    pub(crate) async fn execute_returning(&self, bound: Bound) -> sqlx::Result<Vec<ReadRow>> {
        self.write(move |connection| rows(&bound, connection, usize::MAX))
            .await
    }

    /// Tells the connection that writes something about itself.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) async fn tell_writer(&self, statements: &'static str) -> sqlx::Result<()> {
        self.write(move |connection| connection.execute_batch(statements).map_err(driver_error))
            .await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> sqlx::Result<T> + Send + 'static,
    ) -> sqlx::Result<T> {
        let with = move |turn: OwnedSemaphorePermit| {
            move |connection: &mut Connection| {
                let done = end_transaction(connection).and_then(|()| work(connection));
                // Whoever has given up doesn't give the turn to others while it is written.
                drop(turn);
                done
            }
        };
        if let Ok(turn) = self.writer.turn.clone().try_acquire_owned() {
            return self.writer.lane.run(with(turn)).await;
        }
        // Who isn't looked at when its turn comes would keep it from all others.
        let writer = self.writer.clone();
        to_its_end(async move {
            let turn = writer.turn().await?;
            writer.lane.run(with(turn)).await
        })
        .await
    }

    /// A transaction that writes. Others wait from now on; the file is locked with its first statement.
    pub(crate) async fn begin(&self) -> sqlx::Result<SqliteTx> {
        Ok(SqliteTx {
            turn: Some(self.writer.turn().await?),
            writer: self.writer.clone(),
            begun: false,
        })
    }

    /// The threads that read, and the one that writes.
    pub(crate) fn pools(&self) -> [Pool; 2] {
        [
            self.readers.figures("read"),
            self.writer.lane.figures("write"),
        ]
    }

    /// Lets what is under way finish, then closes all connections.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        // Who writes comes to an end, unless they take very long.
        let _turn = self.writer.turn().await;
        self.checkpoints.close().await;
        self.writer.lane.close().await;
    }
}

impl Writer {
    async fn turn(&self) -> sqlx::Result<OwnedSemaphorePermit> {
        let turn = self.turn.clone().acquire_owned();
        let turn = tokio::time::timeout(PATIENCE, turn).await;
        let turn = turn.map_err(|_| sqlx::Error::PoolTimedOut)?;
        turn.map_err(|_| sqlx::Error::PoolClosed)
    }
}

/// A transaction; dropping it undoes everything.
#[derive(Debug)]
pub(crate) struct SqliteTx {
    writer: Arc<Writer>,
    /// Until it has ended.
    turn: Option<OwnedSemaphorePermit>,
    begun: bool,
}

impl SqliteTx {
    /// All rows of a statement, or the first ones.
    pub(crate) async fn rows(&mut self, bound: Bound, most: usize) -> sqlx::Result<Vec<ReadRow>> {
        self.run(move |connection| rows(&bound, connection, most))
            .await
    }

    /// Runs a statement; gives the number of rows that it touched.
    pub(crate) async fn execute(&mut self, bound: Bound) -> sqlx::Result<u64> {
        self.run(move |connection| execute(&bound, connection))
            .await
    }

    /// Runs many, in their order; gives how many rows each touched.
    pub(crate) async fn execute_many(&mut self, many: Vec<Bound>) -> sqlx::Result<Vec<u64>> {
        self.run(move |connection| {
            many.iter()
                .map(|bound| execute(bound, connection))
                .collect()
        })
        .await
    }

    /// Makes it durable.
    pub(crate) async fn commit(mut self) -> sqlx::Result<()> {
        let turn = self.turn.take();
        if !self.begun {
            return Ok(());
        }
        let commit = move |connection: &mut Connection| {
            let done = run_text(connection, "COMMIT");
            if done.is_err() {
                // If this fails, too, the next to write sees to it.
                let _ = end_transaction(connection);
            }
            drop(turn);
            done
        };
        self.writer.lane.run_anyway(commit).await
    }

    async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Connection) -> sqlx::Result<T> + Send + 'static,
    ) -> sqlx::Result<T> {
        let begins = !std::mem::replace(&mut self.begun, true);
        let work = move |connection: &mut Connection| {
            if begins {
                end_transaction(connection)?;
                run_text(connection, "BEGIN IMMEDIATE")?;
            } else if connection.is_autocommit() {
                // It couldn't begin, or SQLite has undone it, as when the disk is full.
                return Err(sqlx::Error::Protocol("the transaction is over".to_owned()));
            }
            work(connection)
        };
        self.writer.lane.run(work).await
    }
}

impl Drop for SqliteTx {
    fn drop(&mut self) {
        let Some(turn) = self.turn.take().filter(|_| self.begun) else {
            return;
        };
        // If the thread is gone, so is the transaction.
        let _ = self.writer.lane.give(Box::new(move |connection| {
            if let Ok(connection) = connection {
                // If this fails the next to write sees to it.
                let _ = end_transaction(connection);
            }
            drop(turn);
        }));
    }
}

/// Undoes what somebody may have left open.
fn end_transaction(connection: &Connection) -> sqlx::Result<()> {
    if connection.is_autocommit() {
        return Ok(());
    }
    run_text(connection, "ROLLBACK")
}

fn run_text(connection: &Connection, text: &'static str) -> sqlx::Result<()> {
    let statement = connection.prepare_cached(text);
    let done = statement.and_then(|mut statement| statement.raw_execute());
    done.map(drop).map_err(driver_error)
}
