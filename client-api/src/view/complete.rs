//! Rooms that were joined before their members were known: who asks for all of these waits until they are.

use std::time::Duration;

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_rooms::{access, membership};
use rhizome_storage::RoomHead;
use ruma::{RoomId, UserId};
use tokio::time::{Instant, timeout_at};

use crate::App;

/// The longest that a client waits.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until all members of the room are known. Whether that took any time: what was read of the room is stale then. Where
/// nobody of ours is any more, nothing more comes, and nobody waits.
///
/// # Errors
/// It takes too long; the database's.
pub async fn wait(app: &App, head: &RoomHead) -> Result<bool, MatrixError> {
    if head.partial.is_none() {
        return Ok(false);
    }
    let (store, until) = (&app.store, Instant::now() + PATIENCE);
    let mut log = store.log().subscribe();
    loop {
        let now = store.room_by_no(head.room).await?;
        if now.is_none_or(|head| head.partial.is_none()) {
            return Ok(true);
        }
        if !access::server_in_room(store, &head.room_id, &app.config.server_name).await? {
            return Ok(false);
        }
        let changed = timeout_at(until, log.changed()).await;
        if !matches!(changed, Ok(Ok(()))) {
            return Err(MatrixError::new(
                StatusCode::GATEWAY_TIMEOUT,
                "M_UNKNOWN",
                "Not all members of this room are known yet; try again later",
            ));
        }
    }
}

/// Waits until a user's membership of a room is known, which may be banned for all that anybody knows before.
///
/// # Errors
/// The same.
pub async fn wait_for(app: &App, room_id: &RoomId, user: &UserId) -> Result<(), MatrixError> {
    let Some(head) = app.store.room(room_id).await? else {
        return Ok(());
    };
    if head.partial.is_none() {
        return Ok(());
    }
    let known = membership::current(&app.rooms, room_id, user).await?;
    if known.is_none() {
        wait(app, &head).await?;
    }
    Ok(())
}
