//! One opaque error. What a caller can act on is in [`crate::CommitError`] and in `Ok(None)`.

use crate::engine::dialect::{Fault, fault};
use crate::engine::failover;

/// The database could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Locked, out of connections, out of reach for longer than we wait, or without room: try again (503).
    #[error("the database is busy: {0}")]
    Busy(String),
    /// Anything else (500).
    #[error("the database failed: {0}")]
    Failed(String),
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure that is a bug or damage: `what` says what was found.
    pub fn broken(what: impl Into<String>) -> Self {
        Self::Failed(what.into())
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        failover::note(&error);
        if is_busy(&error) {
            Self::Busy(error.to_string())
        } else {
            Self::Failed(error.to_string())
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Whether trying again may help: the fault is not in what was written.
pub(crate) fn is_busy(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Tls(_) => true,
        sqlx::Error::Database(database) => fault(database.as_ref()) != Fault::Other,
        _ => false,
    }
}

/// Whether nothing can be written for now.
pub(crate) fn is_unwritable(error: &sqlx::Error) -> bool {
    let database = error.as_database_error();
    database.is_some_and(|database| fault(database) == Fault::Unwritable)
}

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names neither database.
    #[error("the database URL must begin with sqlite: or postgres://")]
    Url,
    /// An SQLite database that isn't a file, or can't be written to.
    #[error("the database must be a file that can be written: sqlite:/path/to/file")]
    NoFile,
    /// The database can't be reached or opened.
    #[error("the database can't be opened: {0}")]
    Connect(String),
    /// The schema can't be brought up to date.
    #[error("the database's schema can't be brought up to date: {0}")]
    Migration(String),
    /// A newer version has been here and took something away that this one needs.
    #[error(
        "the database was upgraded: it needs a version that knows schema {needs}, this one knows {knows}"
    )]
    TooNew {
        /// The lowest schema number to know.
        needs: i64,
        /// The highest that this binary knows.
        knows: i64,
    },
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Connect(error.to_string())
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        Self::Connect(error.to_string())
    }
}
