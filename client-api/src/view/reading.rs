//! Reading a room on behalf of a user.

use std::sync::Arc;

use rhizome_rooms::access::RoomAccess;
use rhizome_storage::RoomHead;
use ruma::RoomId;

use crate::{
    App, Caller, MatrixError,
    view::{
        complete,
        seen::{Viewer, reader},
    },
};

/// A room that a reader asks about, and how the two stand to each other.
pub struct Reading {
    /// Who reads.
    pub viewer: Viewer,
    /// The room, as far as it is theirs to read.
    pub room: RoomAccess,
}

impl Reading {
    /// Refuses whoever was never in the room, unless anyone may read it.
    pub async fn of(app: &App, caller: &Caller, room_id: &RoomId) -> Result<Reading, MatrixError> {
        Ok(Reading {
            viewer: Viewer::of(caller),
            room: RoomAccess::of(&app.store, reader(caller), room_id).await?,
        })
    }

    /// On behalf of an administrator, who reads everything. `None` while nothing is known of the room's state.
    pub fn of_operator(caller: &Caller, head: Arc<RoomHead>) -> Option<Reading> {
        Some(Reading {
            viewer: Viewer::of(caller),
            room: RoomAccess::of_operator(head)?,
        })
    }

    /// The same when all members of the room are known.
    pub async fn complete(
        app: &App,
        caller: &Caller,
        room_id: &RoomId,
    ) -> Result<Reading, MatrixError> {
        let reading = Reading::of(app, caller, room_id).await?;
        if complete::wait(app, &reading.room.head).await? {
            return Reading::of(app, caller, room_id).await;
        }
        Ok(reading)
    }
}
