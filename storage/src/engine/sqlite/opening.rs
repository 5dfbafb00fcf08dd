//! How a thread comes to its connection, and who sees to that connection besides.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::config::DbConfig;
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
        // Else what is asked with other values is planned anew, each time: with statistics that nobody has gathered.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.set_prepared_statement_cache_capacity(self.statements);
        if let Some(care) = &self.care {
            care.opened(&connection);
        }
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn what_is_asked_with_other_values_is_not_planned_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("db");
        Connection::open(&file).unwrap();
        let opening = Opening {
            file,
            setup: "CREATE TABLE e (no INTEGER PRIMARY KEY, room INTEGER, depth INTEGER, ord INTEGER); \
                    CREATE INDEX h ON e (room, depth, ord) WHERE ord IS NOT NULL;"
                .to_owned(),
            only_read: false,
            statements: 1,
            care: None,
        };
        let connection = opening.open().unwrap();
        let text = "SELECT no FROM e WHERE room = $1 AND ord IS NOT NULL \
                    AND (depth, ord) <= ($2, $3) AND ord <= $4 ORDER BY depth DESC, ord DESC";
        for turn in 0..3 {
            let mut statement = connection.prepare_cached(text).unwrap();
            assert!(!statement.exists([turn, turn, turn, turn]).unwrap());
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
        }
    }
}
