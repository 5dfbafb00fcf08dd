//! How a thread comes to its connection, and who sees to that connection besides.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

/// How connections are opened.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub(super) file: PathBuf,
    /// What each is told first.
    pub(super) setup: String,
    /// Whether nothing is written by them.
    pub(super) only_read: bool,
    /// How many statements each keeps prepared.
    pub(super) statements: usize,
    /// Who sees to it besides.
    pub(super) care: Option<Arc<dyn Care>>,
}

/// What a thread does with its connection besides what it is given.
pub(super) trait Care: std::fmt::Debug + Send + Sync {
    /// It was opened.
    fn opened(&self, connection: &Connection);
    /// Something was done with it, and whoever waits for that has the answer.
    fn done(&self, connection: &Connection);
}

impl Opening {
    pub(super) fn open(&self) -> rusqlite::Result<Connection> {
        // A connection belongs to one thread, so SQLite need not lock it.
        let access = if self.only_read {
            OpenFlags::SQLITE_OPEN_READ_ONLY
        } else {
            OpenFlags::SQLITE_OPEN_READ_WRITE
        };
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.file, flags)?;
        connection.execute_batch(&self.setup)?;
        connection.set_prepared_statement_cache_capacity(self.statements);
        if let Some(care) = &self.care {
            care.opened(&connection);
        }
        Ok(connection)
    }
}
