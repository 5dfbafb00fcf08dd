//! Why a group can't be written.

use crate::Error;
use crate::engine::error::{is_busy, is_unwritable};
use crate::engine::failover;

/// What stands in the way of a group, and whether it does so for good.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A row of the group can't be written.
    Row(Error),
    /// A row is there already. Another process may have written it after we looked.
    Conflict(Error),
    /// Not the group's fault.
    Passing(Error),
    /// Nothing can be written until somebody makes room for it. Nothing of the group is.
    Unwritable(Error),
    /// COMMIT didn't answer as it should.
    AtCommit(Error),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        failover::note(&error);
        let is_conflict = error
            .as_database_error()
            .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
        if is_unwritable(&error) {
            Self::Unwritable(error.into())
        } else if is_busy(&error) {
            Self::Passing(error.into())
        } else if is_conflict {
            Self::Conflict(error.into())
        } else {
            Self::Row(error.into())
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::Busy(_) => Self::Passing(error),
            Error::Failed(_) => Self::Row(error),
        }
    }
}
