//! What is told of the database's errors.

use rhizome_protocol::Refusal;

use serde_json::Value;

use crate::{BackupError, CommitError, Error};

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

impl Refusal for BackupError {
    fn status(&self) -> u16 {
        match self {
            Self::Absent => 404,
            Self::Old { .. } => 403,
            Self::OtherAlgorithm => 400,
            Self::TooMany | Self::Full => 413,
            Self::Store(error) => error.status(),
        }
    }

    fn errcode(&self) -> &'static str {
        match self {
            Self::Absent => "M_NOT_FOUND",
            Self::Old { .. } => "M_WRONG_ROOM_KEYS_VERSION",
            Self::OtherAlgorithm => "M_INVALID_PARAM",
            Self::TooMany | Self::Full => "M_TOO_LARGE",
            Self::Store(error) => error.errcode(),
        }
    }

    fn is_for_the_log(&self) -> bool {
        matches!(self, Self::Store(_))
    }

    fn detail(&self) -> Option<(&'static str, Value)> {
        match self {
            Self::Old { current } => Some(("current_version", current.to_string().into())),
            _ => None,
        }
    }
}

/// For write sets that belong to no room: only the database, or a name that is taken, can refuse those.
impl Refusal for CommitError {
    fn status(&self) -> u16 {
        match self {
            Self::Store(error) => error.status(),
            Self::AliasTaken(_) | Self::Unsubscribed(_) | Self::DelayedMoved(_) => 409,
            Self::TooManyDelayed { .. } => 429,
            Self::TurnOver => 503,
            Self::KeyTaken { .. }
            | Self::TooManyKeys(_)
            | Self::ProfileTooLarge(_)
            | Self::ThirdPartyTaken(_) => 400,
            Self::TooManyThreads(_) => 403,
            _ => 500,
        }
    }

    fn errcode(&self) -> &'static str {
        match self {
            Self::KeyTaken { .. } | Self::TooManyKeys(_) => "M_INVALID_PARAM",
            Self::Unsubscribed(_) => "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION",
            Self::ProfileTooLarge(_) => "M_PROFILE_TOO_LARGE",
            Self::TooManyThreads(_) => "M_RESOURCE_LIMIT_EXCEEDED",
            Self::TooManyDelayed { .. } => "M_LIMIT_EXCEEDED",
            Self::ThirdPartyTaken(_) => "M_THREEPID_IN_USE",
            _ => "M_UNKNOWN",
        }
    }

    fn is_for_the_log(&self) -> bool {
        !matches!(
            self,
            Self::AliasTaken(_)
                | Self::KeyTaken { .. }
                | Self::TooManyKeys(_)
                | Self::Unsubscribed(_)
                | Self::TooManyThreads(_)
                | Self::ProfileTooLarge(_)
                | Self::TooManyDelayed { .. }
                | Self::DelayedMoved(_)
                | Self::ThirdPartyTaken(_)
        )
    }
}
