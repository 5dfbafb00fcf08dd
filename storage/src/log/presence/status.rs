//! What there is to say of somebody's presence.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::UserNo;

/// Whether a user is there. Of several devices the highest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum PresenceState {
    /// Not there, or doesn't want to be seen.
    #[default]
    Offline,
    /// There, but doing nothing.
    Unavailable,
    /// There.
    Online,
    /// There, and not to be disturbed (MSC3026). The user says so, and nothing but the user ends it.
    Busy,
}

/// The name of [`PresenceState::Busy`] for as long as MSC3026 isn't part of the specification.
const BUSY: &str = "org.matrix.msc3026.busy";

impl PresenceState {
    /// The state with this name, if it is one.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "offline" => Some(Self::Offline),
            "unavailable" => Some(Self::Unavailable),
            "online" => Some(Self::Online),
            "busy" | BUSY => Some(Self::Busy),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Unavailable => "unavailable",
            Self::Online => "online",
            Self::Busy => BUSY,
        }
    }
}

/// What others are told; when it changes, they are told again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Told {
    pub(super) state: PresenceState,
    pub(super) message: Option<Arc<str>>,
    pub(super) currently_active: bool,
}

impl Told {
    /// Whether another is so much different that those who wait are woken for it.
    pub(super) fn differs_from(&self, other: &Self) -> bool {
        self.state != other.state || self.message != other.message
    }
}

/// Somebody's presence, as it is when it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceStatus {
    /// Whose.
    pub user: UserNo,
    /// Whether they are there.
    pub state: PresenceState,
    /// What they say of it.
    pub message: Option<Arc<str>>,
    /// How long ago they did something, in milliseconds, if that is known.
    pub last_active_ago: Option<i64>,
    /// Whether they are doing something: what came after `last_active_ago` isn't told then.
    pub currently_active: bool,
}

/// Somebody's presence, with the position at which a reader comes across it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceNews {
    /// Where it changed, or came into the reader's sight.
    pub position: i64,
    /// What is so now.
    pub status: PresenceStatus,
}

/// What another server says of its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceUpdate {
    /// Whether they are there.
    pub state: PresenceState,
    /// What they say of it.
    pub message: Option<String>,
    /// How long ago they did something, in milliseconds.
    pub last_active_ago: Option<u64>,
    /// Whether they are doing something.
    pub currently_active: bool,
}
