//! Who may see an event (client-server "Room history visibility").

use crate::{Membership, Object};

/// `m.room.history_visibility`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryVisibility {
    /// Events since the user was invited.
    Invited,
    /// Events since the user joined.
    Joined,
    /// All events, once the user has joined. What an absent or unknown value means.
    Shared,
    /// All events, for anyone.
    WorldReadable,
}

impl HistoryVisibility {
    /// Reads `content.history_visibility`; `None` is the absent event.
    pub fn of(content: Option<&Object>) -> Self {
        match content.and_then(|content| crate::content::text(content, "history_visibility")) {
            Some("invited") => Self::Invited,
            Some("joined") => Self::Joined,
            Some("world_readable") => Self::WorldReadable,
            _ => Self::Shared,
        }
    }

    /// The name in `content.history_visibility`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Joined => "joined",
            Self::Shared => "shared",
            Self::WorldReadable => "world_readable",
        }
    }
}

/// What matters of the state at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The room's history visibility.
    pub visibility: HistoryVisibility,
    /// The reader's membership; `None` if there never was one.
    pub membership: Option<Membership>,
}

/// Whether a user may see an event.
///
/// `before` and `after` are the moments right before and after the event: they differ only if the event
/// itself changes the visibility or the reader's own membership; the laxer one counts. `joined_since` is
/// whether the reader has been joined at any time at or after the event.
pub fn can_see(_before: Moment, _after: Moment, _joined_since: bool) -> bool {
    unimplemented!()
}
