//! Rooms and their heads.

use std::sync::Arc;

use rhizome_protocol::RoomRules;
use ruma::{OwnedEventId, OwnedRoomId, RoomId};

use crate::{EventNo, Result, RoomNo, SnapshotNo, Store};

/// Where a room stands. True as of [`crate::Log::head`], and for this process as soon as a commit has
/// returned.
#[derive(Debug, Clone)]
pub struct RoomHead {
    /// Its number.
    pub room: RoomNo,
    /// Its id.
    pub room_id: OwnedRoomId,
    /// The rules of its version.
    pub rules: &'static RoomRules,
    /// Bumped by every change of its current state.
    pub state_version: i64,
    /// The current state; `None` before the first event.
    pub snapshot: Option<SnapshotNo>,
    /// The forward extremities.
    pub extremities: Vec<Extremity>,
    /// How many users are joined.
    pub joined: i64,
    /// How many users are invited.
    pub invited: i64,
    /// Whether it is in the public directory.
    pub public: bool,
}

/// A forward extremity: an accepted event that no other has as a `prev_event`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extremity {
    /// Its number.
    pub no: EventNo,
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its depth.
    pub depth: i64,
}

impl Store {
    /// The room, if we take (or took) part in it.
    pub async fn room(&self, _id: &RoomId) -> Result<Option<Arc<RoomHead>>> {
        unimplemented!()
    }
    /// The same by number.
    pub async fn room_by_no(&self, _room: RoomNo) -> Result<Option<Arc<RoomHead>>> {
        unimplemented!()
    }
    /// Rooms in the public directory, by number, after `after`.
    pub async fn public_rooms(&self, _after: RoomNo, _limit: usize) -> Result<Vec<RoomNo>> {
        unimplemented!()
    }
}
