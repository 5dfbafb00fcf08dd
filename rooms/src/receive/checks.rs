//! Questions about an event and what is stored: whether they are the same, and what its auth events say (step 4).

use std::{collections::HashMap, sync::Arc};

use rhizome_protocol::{Pdu, Rejection, auth, rules::EventIdFormat};
use rhizome_storage::{EventNo, RoomNo, SnapshotNo, Status, StoredEvent};
use ruma::{EventId, OwnedEventId};

use crate::{Rooms, error::Result, receive::packed::parents, state::Resolved};

/// Whether one of two copies of an event has its content, and the other has not.
pub(super) fn is_whole_of(one: &Pdu, other: &Pdu) -> bool {
    // Mostly they are the same text.
    one.json() != other.json() && one.is_whole() && !other.is_whole()
}

/// Whether `pdu` has the content that the stored event came without.
pub(super) fn completes(stored: &StoredEvent, pdu: &Pdu) -> bool {
    stored.redacted_by.is_none() && is_whole_of(pdu, &stored.pdu)
}

/// What the room began with, if we know its state.
pub(crate) async fn own_create(
    rooms: &Rooms,
    snapshot: Option<SnapshotNo>,
) -> Result<Option<OwnedEventId>> {
    let at = Resolved::stored_or_empty(snapshot);
    let create = at.entries(rooms.store(), &[("m.room.create", "")]).await?;
    let own: Vec<EventNo> = create.into_iter().flatten().collect();
    let own = rooms.store().event_ids(&own).await?;
    Ok(own.into_iter().map(|(_, id)| id).next())
}

/// Why an event that would begin a room doesn't begin this one, which began with `own`. The authorisation rules
/// alone allow any create event that nothing precedes, whatever its state key; the state after it has nothing else.
pub(crate) fn other_create(pdu: &Pdu, own: Option<&EventId>) -> Option<Rejection> {
    let may_be = match own {
        Some(own) => own == pdu.event_id(),
        None => pdu.state_key() == Some(""),
    };
    if pdu.kind() != "m.room.create" || may_be {
        return None;
    }
    let reason = "the room has a create event already";
    Some(Rejection::new("auth 1", reason))
}

/// Whether a stored event is this one. Where servers choose the ids, one may have signed two events with
/// the same: the first that we saw has it, the other is nothing to us.
pub(super) fn is_same(stored: &StoredEvent, room: RoomNo, pdu: &Pdu) -> bool {
    pdu.rules().format.event_id != EventIdFormat::Explicit
        || (stored.room == room && stored.pdu.reference_hash() == pdu.reference_hash())
}

/// The auth events that an event names (and the create event that it implies) with whether each was
/// rejected; or those that we don't have.
pub(crate) async fn auth_events_of(
    rooms: &Rooms,
    pdu: &Pdu,
) -> Result<Result<Vec<(Arc<Pdu>, bool)>, Vec<OwnedEventId>>> {
    let ids = parents(pdu);
    let stored = rooms.store().events(&ids).await?;
    let stored: HashMap<&EventId, &Arc<StoredEvent>> = stored
        .iter()
        .map(|event| (event.pdu.event_id(), event))
        .collect();
    let mut found = Vec::with_capacity(ids.len());
    let mut missing = Vec::new();
    for id in ids {
        match stored.get(&*id) {
            Some(event) => found.push((event.pdu.clone(), event.status == Status::Rejected)),
            None => missing.push(id),
        }
    }
    Ok(if missing.is_empty() {
        Ok(found)
    } else {
        Err(missing)
    })
}

/// Step 4: what the event's auth events, each with whether it was rejected, allow.
pub(crate) fn allowed_by_auth_events(
    pdu: &Pdu,
    auth_events: &[(Arc<Pdu>, bool)],
) -> Result<(), Rejection> {
    auth::check_auth_events(pdu, auth_events)?;
    let state: Vec<Arc<Pdu>> = auth_events.iter().map(|(event, _)| event.clone()).collect();
    auth::authorize(pdu, &state)
}
