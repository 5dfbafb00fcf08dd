//! What every room endpoint asks first: do we know the room, may this server ask.

use std::sync::Arc;

use rhizome_rooms::access;
use rhizome_storage::{RoomHead, StoredEvent};
use ruma::{EventId, RoomId, ServerName};

use crate::{Federation, MatrixError, acl};

/// A room that this server takes part in and whose ACL lets `origin` in.
///
/// # Errors
/// 404 `M_NOT_FOUND` for rooms that we are not in, 403 `M_FORBIDDEN` for denied servers.
pub(super) async fn known(
    fed: &Federation,
    origin: &ServerName,
    room_id: &RoomId,
) -> Result<Arc<RoomHead>, MatrixError> {
    let head = fed.store().room(room_id).await?.ok_or_else(|| {
        MatrixError::not_found(format!("This server does not know the room {room_id}"))
    })?;
    require_allowed(fed, origin, &head).await?;
    if !access::server_in_room(fed.store(), room_id, fed.server_name()).await? {
        return Err(MatrixError::not_found(format!(
            "This server is not in the room {room_id}"
        )));
    }
    Ok(head)
}

/// Others come in through us only where we know whom the room has banned.
///
/// # Errors
/// 404 `M_NOT_FOUND` for rooms of which we don't know all members.
pub(super) fn complete(head: &RoomHead) -> Result<(), MatrixError> {
    if head.partial.is_none() {
        return Ok(());
    }
    Err(MatrixError::not_found(format!(
        "This server does not know all members of the room {} yet",
        head.room_id
    )))
}

/// [`known`], for servers that are in the room themselves.
///
/// # Errors
/// As [`known`], and 403 `M_FORBIDDEN` for servers without a joined user in the room.
pub(super) async fn resident(
    fed: &Federation,
    origin: &ServerName,
    room_id: &RoomId,
) -> Result<Arc<RoomHead>, MatrixError> {
    let head = known(fed, origin, room_id).await?;
    if !access::server_in_room(fed.store(), room_id, origin).await? {
        return Err(MatrixError::forbidden(format!(
            "{origin} is not in the room {room_id}"
        )));
    }
    Ok(head)
}

/// Applies the room's `m.room.server_acl`
/// (<https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls>).
pub(super) async fn require_allowed(
    fed: &Federation,
    origin: &ServerName,
    head: &RoomHead,
) -> Result<(), MatrixError> {
    if acl::is_allowed(fed, origin, head).await? {
        return Ok(());
    }
    Err(MatrixError::forbidden(format!(
        "{origin} is denied access to this room by its server ACL"
    )))
}

/// An event of the room, however it is placed.
///
/// # Errors
/// 404 `M_NOT_FOUND`.
pub(super) async fn event(
    fed: &Federation,
    head: &RoomHead,
    event_id: &EventId,
) -> Result<Arc<StoredEvent>, MatrixError> {
    match fed.store().event(event_id).await? {
        Some(event) if event.room == head.room => Ok(event),
        _ => Err(MatrixError::not_found(format!(
            "Could not find event {event_id}"
        ))),
    }
}
