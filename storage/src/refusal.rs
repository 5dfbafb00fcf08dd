//! What is told of the database's errors.

use rhizome_protocol::Refusal;

use crate::{CommitError, Error};

impl Refusal for Error {
    fn status(&self) -> u16 {
        match self {
            Self::Busy(_) => 503,
            Self::Failed(_) => 500,
        }
    }

    fn errcode(&self) -> &'static str {
        "M_UNKNOWN"
    }

    fn is_for_the_log(&self) -> bool {
        true
    }
}

/// For write sets that belong to no room: only the database, or a name that is taken, can refuse those.
impl Refusal for CommitError {
    fn status(&self) -> u16 {
        match self {
            Self::Store(error) => error.status(),
            Self::AliasTaken(_) => 409,
            Self::KeyTaken { .. } | Self::TooManyKeys(_) => 400,
            _ => 500,
        }
    }

    fn errcode(&self) -> &'static str {
        match self {
            Self::KeyTaken { .. } | Self::TooManyKeys(_) => "M_INVALID_PARAM",
            _ => "M_UNKNOWN",
        }
    }

    fn is_for_the_log(&self) -> bool {
        !matches!(
            self,
            Self::AliasTaken(_) | Self::KeyTaken { .. } | Self::TooManyKeys(_)
        )
    }
}
