//! Reading a room on behalf of a user.

use rhizome_rooms::access::RoomAccess;
use ruma::RoomId;

use crate::{
    App, Caller, MatrixError,
    view::seen::{Viewer, reader},
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
}
