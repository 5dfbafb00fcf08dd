//! What every room endpoint asks first: do we know the room, may this server ask.

use std::sync::Arc;

use rhizome_rooms::access;
use rhizome_storage::{Error, RoomHead, SnapshotNo, StoredEvent};
use ruma::{EventId, RoomId, ServerName};

use crate::{Federation, MatrixError, inbound::acl};

/// How many mangled ACLs in a row are seen through.
const MAX_MANGLED: usize = 10;

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
    if is_allowed(fed, origin, head).await? {
        return Ok(());
    }
    Err(MatrixError::forbidden(format!(
        "{origin} is denied access to this room by its server ACL"
    )))
}

/// Whether the room's ACL lets `origin` in.
pub(super) async fn is_allowed(
    fed: &Federation,
    origin: &ServerName,
    head: &RoomHead,
) -> Result<bool, Error> {
    let event = acl_in_force(fed, head.snapshot).await?;
    Ok(acl::allows(
        event.as_ref().map(|event| event.pdu.content()),
        origin,
    ))
}

/// Of each of some rooms, whether its ACL lets `origin` in; in a few queries however many they are.
pub(super) async fn allowed_in(
    fed: &Federation,
    origin: &ServerName,
    heads: &[Arc<RoomHead>],
) -> Result<Vec<bool>, MatrixError> {
    let mut allowed = vec![true; heads.len()];
    let states = heads.iter().enumerate();
    let states = states.filter_map(|(index, head)| Some((index, head.snapshot?)));
    let (places, states): (Vec<usize>, Vec<_>) = states
        .map(|(index, at)| (index, (at, "m.room.server_acl", "")))
        .unzip();
    let found = fed.store().state_entries_at(&states).await?;
    let nos: Vec<_> = found.iter().flatten().copied().collect();
    let mut events = fed.store().events_by_no(&nos).await?.into_iter();
    for (index, _) in places.iter().zip(&found).filter(|(_, no)| no.is_some()) {
        let Some(event) = events.next() else { break };
        allowed[*index] = if is_mangled(&event) {
            is_allowed(fed, origin, &heads[*index]).await?
        } else {
            acl::allows(Some(event.pdu.content()), origin)
        };
    }
    Ok(allowed)
}

/// Whether an ACL came mangled, and says nothing. Redaction leaves nothing of it either, so that few are looked at
/// closely.
fn is_mangled(event: &StoredEvent) -> bool {
    event.pdu.content().is_empty() && event.redacted_by.is_none() && !event.pdu.is_whole()
}

/// The room's ACL as far as we know it. One that came mangled says nothing (it would shut everybody out, the server
/// too that has it whole): the one before it counts.
async fn acl_in_force(
    fed: &Federation,
    mut at: Option<SnapshotNo>,
) -> Result<Option<Arc<StoredEvent>>, Error> {
    for _ in 0..MAX_MANGLED {
        let Some(snapshot) = at else { break };
        let event = fed
            .store()
            .state_event(snapshot, "m.room.server_acl", "")
            .await?;
        if !event.as_ref().is_some_and(|event| is_mangled(event)) {
            return Ok(event);
        }
        at = event.and_then(|event| event.state_before);
    }
    Ok(None)
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
