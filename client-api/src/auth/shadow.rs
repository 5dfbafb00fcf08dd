//! Users whose events are taken, and shown to nobody: who spams on doesn't learn that nobody reads it. It is for the
//! operator to weigh; those whom it hits can't defend themselves.

use rhizome_edge::MatrixError;
use rhizome_rooms::access::RoomAccess;
use rhizome_storage::random;
use ruma::{EventId, OwnedEventId, RoomId, UserId};

use crate::{App, Caller, view::seen::reader};

/// Whether nobody is to see what a user does.
pub async fn is_banned(app: &App, user: &UserId) -> Result<bool, MatrixError> {
    Ok(app.store.blocks().await?.user(user))
}

/// What who sends such an event to a room is told: what others are told.
///
/// # Errors
/// The user isn't in the room.
pub async fn event(app: &App, who: &Caller, room_id: &RoomId) -> Result<OwnedEventId, MatrixError> {
    RoomAccess::of_member(&app.store, reader(who), room_id).await?;
    let name = format!("${}", random::secret()?);
    EventId::parse(name).map_err(|_| MatrixError::internal())
}
