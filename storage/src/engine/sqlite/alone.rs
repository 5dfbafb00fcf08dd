//! A file that somebody opens for themselves, by one connection that lasts until it is closed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, Row};

use super::copy;
use super::error::driver_error;
use super::lane::Lane;
use super::opening::Opening;
use super::statement::rows;
use crate::engine::error::is_busy;
use crate::engine::sql::{Bound, ReadRow};

/// So many statements stay prepared.
const STATEMENTS: usize = 20;

/// A connection with a thread.
#[derive(Debug)]
pub(crate) struct SqliteAlone {
    lane: Lane,
    /// Its thread has panicked: another would open another connection, which knows nothing of what this one was told.
    lost: AtomicBool,
}

impl SqliteAlone {
    /// Opens a file that is there.
    pub(crate) async fn open(file: &Path, only_read: bool) -> sqlx::Result<Self> {
        let opening = Opening {
            file: file.to_owned(),
            setup: String::new(),
            only_read,
            statements: STATEMENTS,
            care: None,
        };
        // One thread, so the connection is the same for as long as the lane is there.
        let lane = Lane::new("sqlite-alone", 1, opening);
        lane.run(|_| Ok(())).await?;
        Ok(Self {
            lane,
            lost: AtomicBool::new(false),
        })
    }

    /// Runs statements, whose rows don't matter.
    pub(crate) async fn run(&self, statements: String) -> sqlx::Result<()> {
        let run = move |connection: &mut Connection| {
            let done = connection.execute_batch(&statements);
            done.map_err(driver_error)
        };
        self.ask(run).await
    }

    /// All rows of a statement, or the first ones.
    pub(crate) async fn rows(&self, bound: Bound, most: usize) -> sqlx::Result<Vec<ReadRow>> {
        let read = move |connection: &mut Connection| rows(&bound, connection, most);
        self.ask(read).await
    }

    /// Gives the rows of a statement to `take`, one after another, with what that makes of them, until it says that there is
    /// enough (`false`). None of them stays in memory.
    pub(crate) async fn fold<S: Send + 'static>(
        &self,
        statement: String,
        mut state: S,
        mut take: impl FnMut(&mut S, &Row<'_>) -> rusqlite::Result<bool> + Send + 'static,
    ) -> sqlx::Result<S> {
        self.ask(move |connection| {
            let mut prepared = connection.prepare(&statement).map_err(driver_error)?;
            let mut rows = prepared.query([]).map_err(driver_error)?;
            while let Some(row) = rows.next().map_err(driver_error)? {
                if !take(&mut state, row).map_err(driver_error)? {
                    break;
                }
            }
            Ok(state)
        })
        .await
    }

    /// Copies everything into a new file, as of one moment, while others go on. `told`: how many pages are copied, of how many.
    pub(crate) async fn copy(
        &self,
        into: PathBuf,
        mut told: impl FnMut(u64, u64) + Send + 'static,
    ) -> sqlx::Result<()> {
        self.ask(move |connection| copy::copy(connection, &into, &mut told))
            .await
    }

    /// Has the file to itself from now on. `false` if somebody else has it open. It must be the first that is done with it.
    pub(crate) async fn claim(&self) -> sqlx::Result<bool> {
        let setup = "PRAGMA busy_timeout = 0; PRAGMA locking_mode = EXCLUSIVE;";
        self.run(setup.to_owned()).await?;
        match self.run("BEGIN EXCLUSIVE".to_owned()).await {
            Ok(()) => {
                self.run("COMMIT".to_owned()).await?;
                Ok(true)
            }
            Err(error) if is_busy(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> sqlx::Result<T> + Send + 'static,
    ) -> sqlx::Result<T> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(sqlx::Error::WorkerCrashed);
        }
        let done = self.lane.run(work).await;
        if matches!(done, Err(sqlx::Error::WorkerCrashed)) {
            self.lost.store(true, Ordering::Relaxed);
        }
        done
    }

    pub(crate) async fn close(self) {
        self.lane.close().await;
    }
}
