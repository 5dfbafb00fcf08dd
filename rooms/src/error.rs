//! What can go wrong with a room, and which answer the edge gives for it.
//!
//! Every variant maps to one `(status, errcode)`; the table is [`Error::status`] and
//! [`Error::errcode`], and the tests at the foot read it back.

use rhizome_protocol::{Refusal, Rejection};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde_json::Value;

/// Why a room operation was not done. Nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The authorisation rules (or a rule of ours for our own users) refuse the event.
    #[error("{0}")]
    Forbidden(Rejection),
    /// The user may not do or see this; the sentence says why.
    #[error("{0}")]
    Denied(String),
    /// The invited user doesn't want it.
    #[error("{0} doesn't accept this invite")]
    InviteBlocked(OwnedUserId),
    /// We know no such room.
    #[error("This server does not know the room {0}")]
    UnknownRoom(OwnedRoomId),
    /// There is no such event, or the asker may not see it (the two must look the same).
    #[error("Event not found: {0}")]
    UnknownEvent(OwnedEventId),
    /// There is no such piece of state.
    #[error("{0}")]
    NotFound(String),
    /// The room version is not one we speak, or not one that the other server speaks.
    #[error("Room version {0:?} is not supported here")]
    UnsupportedVersion(String),
    /// A server asked for a join template without naming the room's version among its own.
    #[error("Your homeserver does not support room version {0:?} of this room")]
    IncompatibleVersion(String),
    /// The request cannot mean anything: a malformed event or parameter.
    #[error("{0}")]
    Invalid(String),
    /// The request is well formed but impossible in the room's state (unbanning who isn't banned).
    #[error("{0}")]
    BadState(String),
    /// The room to be created would contradict its own rules.
    #[error("{0}")]
    InvalidRoomState(String),
    /// We can't tell whether the user meets a condition of a restricted room: another server may.
    #[error("{0}")]
    UnableToAuthorise(String),
    /// Nobody of ours may let the user into a restricted room: another server's users may.
    #[error("{0}")]
    UnableToGrant(String),
    /// The alias is taken.
    #[error("The alias {0} is already in use")]
    AliasTaken(String),
    /// The delayed event that this was to be isn't scheduled any more, or for another time.
    #[error("The delayed event isn't scheduled any more")]
    NotScheduled,
    /// The state that was to be replaced isn't what it was.
    #[error("The state has been changed meanwhile")]
    Replaced,
    /// What a new room was to be, another is.
    #[error("{0}")]
    Taken(String),
    /// The event is over a size limit.
    #[error("{0}")]
    TooLarge(String),
    /// The room's state kept changing underneath; nothing was written, asking again may help.
    #[error("The room is changing too fast; try again")]
    Contended,
    /// The database.
    #[error("{0}")]
    Store(#[from] rhizome_storage::Error),
}

impl Error {
    /// The HTTP status that both APIs answer with.
    pub fn status(&self) -> u16 {
        match self {
            Self::Forbidden(rejection) if is_nonsense(rejection) => 400,
            Self::Forbidden(_) | Self::Denied(_) | Self::InviteBlocked(_) => 403,
            Self::UnknownRoom(_) | Self::UnknownEvent(_) | Self::NotFound(_) => 404,
            Self::UnsupportedVersion(_)
            | Self::IncompatibleVersion(_)
            | Self::Invalid(_)
            | Self::BadState(_)
            | Self::InvalidRoomState(_)
            | Self::UnableToAuthorise(_)
            | Self::UnableToGrant(_)
            | Self::AliasTaken(_) => 400,
            Self::NotScheduled | Self::Replaced | Self::Taken(_) => 409,
            Self::TooLarge(_) => 413,
            Self::Contended | Self::Store(rhizome_storage::Error::Busy(_)) => 503,
            Self::Store(_) => 500,
        }
    }

    /// The Matrix error code.
    pub fn errcode(&self) -> &'static str {
        match self {
            Self::Forbidden(rejection) if is_nonsense(rejection) => "M_BAD_JSON",
            Self::Forbidden(_) | Self::Denied(_) => "M_FORBIDDEN",
            Self::InviteBlocked(_) => "M_INVITE_BLOCKED",
            Self::UnknownRoom(_) | Self::UnknownEvent(_) | Self::NotFound(_) => "M_NOT_FOUND",
            Self::UnsupportedVersion(_) => "M_UNSUPPORTED_ROOM_VERSION",
            Self::IncompatibleVersion(_) => "M_INCOMPATIBLE_ROOM_VERSION",
            Self::Invalid(_) => "M_BAD_JSON",
            Self::BadState(_) => "M_BAD_STATE",
            Self::InvalidRoomState(_) => "M_INVALID_ROOM_STATE",
            Self::UnableToAuthorise(_) => "M_UNABLE_TO_AUTHORISE_JOIN",
            Self::UnableToGrant(_) => "M_UNABLE_TO_GRANT_JOIN",
            Self::AliasTaken(_) => "M_ROOM_IN_USE",
            Self::TooLarge(_) => "M_TOO_LARGE",
            Self::NotScheduled
            | Self::Replaced
            | Self::Taken(_)
            | Self::Contended
            | Self::Store(_) => "M_UNKNOWN",
        }
    }
}

impl Refusal for Error {
    fn status(&self) -> u16 {
        self.status()
    }

    fn errcode(&self) -> &'static str {
        self.errcode()
    }

    fn is_for_the_log(&self) -> bool {
        matches!(self, Self::Store(_))
    }

    fn detail(&self) -> Option<(&'static str, Value)> {
        match self {
            Self::Contended => Some(("retry_after_ms", 1000.into())),
            Self::IncompatibleVersion(version) => Some(("room_version", version.as_str().into())),
            _ => None,
        }
    }
}

/// Whether a rule was broken that nobody may break, whatever their power: a creator's power level.
fn is_nonsense(rejection: &Rejection) -> bool {
    [Rejection::OWNED_KEY, "auth 10.4"].contains(&rejection.rule)
}

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn the_edge_answers() {
        let text = || String::from("why");
        let rejection = Rejection::new("auth 8", "too little power");
        let table = [
            (Error::Forbidden(rejection), 403, "M_FORBIDDEN"),
            (
                Error::InviteBlocked(user_id!("@a:here").to_owned()),
                403,
                "M_INVITE_BLOCKED",
            ),
            (
                Error::Forbidden(Rejection::new("auth 10.4", "a creator's level")),
                400,
                "M_BAD_JSON",
            ),
            (Error::Denied(text()), 403, "M_FORBIDDEN"),
            (Error::NotFound(text()), 404, "M_NOT_FOUND"),
            (
                Error::UnsupportedVersion(text()),
                400,
                "M_UNSUPPORTED_ROOM_VERSION",
            ),
            (
                Error::IncompatibleVersion(text()),
                400,
                "M_INCOMPATIBLE_ROOM_VERSION",
            ),
            (Error::Invalid(text()), 400, "M_BAD_JSON"),
            (Error::BadState(text()), 400, "M_BAD_STATE"),
            (Error::InvalidRoomState(text()), 400, "M_INVALID_ROOM_STATE"),
            (
                Error::UnableToAuthorise(text()),
                400,
                "M_UNABLE_TO_AUTHORISE_JOIN",
            ),
            (Error::UnableToGrant(text()), 400, "M_UNABLE_TO_GRANT_JOIN"),
            (Error::AliasTaken(text()), 400, "M_ROOM_IN_USE"),
            (Error::NotScheduled, 409, "M_UNKNOWN"),
            (Error::Replaced, 409, "M_UNKNOWN"),
            (Error::Taken(text()), 409, "M_UNKNOWN"),
            (Error::TooLarge(text()), 413, "M_TOO_LARGE"),
            (Error::Contended, 503, "M_UNKNOWN"),
            (
                Error::Store(rhizome_storage::Error::Busy(text())),
                503,
                "M_UNKNOWN",
            ),
            (
                Error::Store(rhizome_storage::Error::Failed(text())),
                500,
                "M_UNKNOWN",
            ),
        ];
        for (error, status, errcode) in table {
            assert_eq!((error.status(), error.errcode()), (status, errcode));
            assert!(!error.to_string().is_empty());
        }
    }

    /// Causes stay in the log, hints reach whoever asked.
    #[test]
    fn what_else_is_told() {
        let failed = Error::Store(rhizome_storage::Error::Failed("password".to_owned()));
        assert!(failed.is_for_the_log());
        let version = Error::IncompatibleVersion("12".to_owned());
        assert_eq!(version.detail(), Some(("room_version", "12".into())));
        assert_eq!(
            Error::Contended.detail(),
            Some(("retry_after_ms", 1000.into()))
        );
    }
}
