//! A file that somebody opens for themselves, by one connection that lasts until it is closed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use super::error::driver_error;
use super::lane::Lane;
use super::opening::Opening;
use super::statement::rows;
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
