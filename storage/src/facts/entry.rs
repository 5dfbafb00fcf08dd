//! What stands in the log: facts, and what happens in rooms.

use std::sync::Arc;

use rhizome_protocol::Membership;

use super::{Audience, EntryKind};
use crate::{EventNo, KeyNo, Pos, RoomNo, StoredEvent, UserNo};

/// One position of the log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The position.
    pub pos: Pos,
    /// What happened.
    pub kind: EntryKind,
}

/// An accepted live event.
#[derive(Debug, Clone)]
pub struct LiveEvent {
    /// Its room.
    pub room: RoomNo,
    /// The event (its redacted form, if it has been redacted by now).
    pub event: Arc<StoredEvent>,
}

/// A change of a room's current state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChanged {
    /// The room.
    pub room: RoomNo,
    /// Which entry.
    pub key: KeyNo,
    /// What was there.
    pub old: Option<EventNo>,
    /// What is there now.
    pub new: Option<EventNo>,
    /// If the entry is a membership: whose, and which from now on.
    pub member: Option<(UserNo, Membership)>,
}

/// An event got the content that it had come without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRestored {
    /// Its room.
    pub room: RoomNo,
    /// Which.
    pub event: EventNo,
}

impl LiveEvent {
    pub(crate) fn audience(&self) -> Audience {
        Audience::Room(self.room)
    }

    pub(crate) fn weight(&self) -> usize {
        self.event.weight()
    }
}

impl StateChanged {
    /// A member who has left isn't in the room any more.
    pub(crate) fn audience(&self) -> Audience {
        match self.member {
            Some((user, _)) => Audience::RoomAnd(self.room, user),
            None => Audience::Room(self.room),
        }
    }
}
