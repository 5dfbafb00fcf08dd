//! SQLite's errors in the form that the rest of the crate knows: with their codes, as sqlx's own driver gives them.

use std::borrow::Cow;
use std::error::Error as StdError;

use rusqlite::ffi;
use sqlx::error::{DatabaseError, ErrorKind};

/// What SQLite said.
#[derive(Debug, thiserror::Error)]
#[error("(code: {code}) {message}")]
struct SqliteError {
    /// With what it adds to the lowest byte.
    code: i32,
    message: String,
}

impl DatabaseError for SqliteError {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.to_string().into())
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        match self.code {
            ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY => {
                ErrorKind::UniqueViolation
            }
            ffi::SQLITE_CONSTRAINT_NOTNULL => ErrorKind::NotNullViolation,
            ffi::SQLITE_CONSTRAINT_CHECK => ErrorKind::CheckViolation,
            _ => ErrorKind::Other,
        }
    }
}

/// The error as sqlx has it.
pub(super) fn driver_error(error: rusqlite::Error) -> sqlx::Error {
    let (code, message) = match error {
        rusqlite::Error::SqliteFailure(error, message) => (
            error.extended_code,
            message.unwrap_or_else(|| error.to_string()),
        ),
        other => return sqlx::Error::AnyDriverError(Box::new(other)),
    };
    sqlx::Error::Database(Box::new(SqliteError { code, message }))
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    fn failing(statement: &str) -> sqlx::Error {
        let connection = Connection::open_in_memory().unwrap();
        let table =
            "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT UNIQUE, c TEXT NOT NULL DEFAULT '');
            INSERT INTO t (a, b) VALUES (1, 'x')";
        connection.execute_batch(table).unwrap();
        driver_error(connection.execute_batch(statement).unwrap_err())
    }

    #[test]
    fn kinds_and_codes_are_told() {
        for (statement, unique, code) in [
            ("INSERT INTO t (a) VALUES (1)", true, "1555"),
            ("INSERT INTO t (b) VALUES ('x')", true, "2067"),
            ("INSERT INTO t (c) VALUES (NULL)", false, "1299"),
            ("SELECT nothing", false, "1"),
        ] {
            let error = failing(statement);
            let error = error.as_database_error().unwrap();
            assert_eq!(error.is_unique_violation(), unique, "{statement}");
            assert_eq!(error.code().as_deref(), Some(code), "{statement}");
        }
    }
}
