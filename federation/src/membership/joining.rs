//! Joins that are under way: of one room, one after the other.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use rhizome_protocol::RoomRules;
use ruma::{OwnedRoomId, RoomId};
use tokio::{sync::Notify, time::Instant};

use crate::{
    Federation, MatrixError,
    keyed::{Keyed, KeyedGuard},
};

/// How long a user waits for another one's join of the same room.
const TURN_TIME: Duration = Duration::from_mins(1);

/// What joins know of each other in memory, and what arrives knows of them.
#[derive(Debug, Default)]
pub(crate) struct Joining {
    /// Remote joins and knocks under way: one at a time per room.
    pub(crate) turns: Keyed<OwnedRoomId>,
    /// Rooms that we are joining now, with their rules: events that arrive meanwhile wait in the inbox.
    rooms: Mutex<HashMap<OwnedRoomId, &'static RoomRules>>,
    /// A join is to be taken back.
    pub(crate) in_vain: Notify,
}

impl Joining {
    /// The rules of the room, if we are just joining it.
    pub(crate) fn rules(&self, room_id: &RoomId) -> Option<&'static RoomRules> {
        self.rooms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(room_id)
            .copied()
    }

    pub(crate) fn begin<'a>(
        &'a self,
        room_id: &RoomId,
        rules: &'static RoomRules,
    ) -> JoiningRoom<'a> {
        self.rooms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(room_id.to_owned(), rules);
        JoiningRoom {
            joining: self,
            room_id: room_id.to_owned(),
        }
    }
}

/// Ends the joining when dropped.
pub(crate) struct JoiningRoom<'a> {
    joining: &'a Joining,
    room_id: OwnedRoomId,
}

impl Drop for JoiningRoom<'_> {
    fn drop(&mut self) {
        self.joining
            .rooms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.room_id);
    }
}

/// How long a step may take, of which nothing may be left.
pub(crate) fn time_left(until: Instant, most: Duration) -> Duration {
    until.saturating_duration_since(Instant::now()).min(most)
}

/// Waits for the joins of this room that are under way, though not for ever.
pub(crate) async fn turn(
    fed: &Federation,
    room_id: &RoomId,
    until: Instant,
) -> Result<KeyedGuard<OwnedRoomId>, MatrixError> {
    let turn = fed.joining().turns.lock(room_id.to_owned());
    let turn = tokio::time::timeout(time_left(until, TURN_TIME), turn).await;
    turn.map_err(|_| {
        MatrixError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "M_UNKNOWN",
            "Another user of this server is joining the room, and the other server is slow",
        )
    })
}
