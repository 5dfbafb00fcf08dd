//! What an event refers to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rhizome_protocol::{Pdu, Rejection, auth, resolve::StateMap, rules::EventIdFormat};
use rhizome_storage::{
    EventNo, KeyNo, Placement, RoomHead, RoomNo, SnapshotNo, Status, StoredEvent,
};
use ruma::{EventId, OwnedEventId};

use super::{
    Gathered, Need,
    restore::{completes, is_whole_of},
};
use crate::{
    Rooms,
    error::Result,
    receive::packed::parents,
    state::{Fork, Resolved},
};

/// What was found out about an event before anything is decided.
pub(super) enum Gather {
    Known,
    /// It is stored and has its place, but without the content that the copy at hand has.
    Mangled(Arc<StoredEvent>),
    Need(Need),
    Found(Found),
}

pub(super) struct Found {
    /// The event: of the copy that came and the one that is stored, the whole one.
    pub(super) pdu: Arc<Pdu>,
    /// The number of the outlier or rejected event that we have already.
    pub(super) no: Option<EventNo>,
    pub(super) prevs: Vec<Arc<StoredEvent>>,
    pub(super) forks: Vec<Fork>,
    /// Why it can't be accepted, whatever the state.
    pub(super) rejection: Option<Rejection>,
}

/// Looks for what the event refers to, and checks it against its auth events. `once_more`: even if it was
/// rejected before.
pub(super) async fn gather(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Arc<Pdu>,
    gathered: &Gathered,
    once_more: bool,
) -> Result<Gather> {
    let store = rooms.store();
    let known = store.event(pdu.event_id()).await?;
    let mut pdu = pdu;
    if let Some(known) = &known {
        if !is_same(known, head.room, pdu) {
            return Ok(Gather::Known);
        }
        // A rejection may be lifted only by what somebody has told since, or by what the event itself says.
        let completed = completes(known, pdu);
        let told = once_more || !gathered.states_after.is_empty();
        let again = known.status == Status::Rejected && (completed || told);
        if known.placement != Placement::Outlier && !again {
            return Ok(if completed {
                Gather::Mangled(known.clone())
            } else {
                Gather::Known
            });
        }
        if known.redacted_by.is_none() && is_whole_of(&known.pdu, pdu) {
            pdu = &known.pdu;
        }
    }
    let no = known.as_ref().map(|known| known.no);

    let mut need = Need::default();
    let auth_events = auth_events_of(rooms, pdu).await?;
    let auth_events = match auth_events {
        Ok(events) => events,
        Err(missing) => {
            need.auth = missing;
            Vec::new()
        }
    };
    let found = store.events(pdu.prev_events()).await?;
    let by_id: HashMap<&EventId, &Arc<StoredEvent>> = found
        .iter()
        .map(|event| (event.pdu.event_id(), event))
        .collect();
    let mut prevs = Vec::new();
    let mut forks = Vec::new();
    let mut rejection = None;
    for id in pdu.prev_events() {
        match by_id.get(&**id) {
            Some(event) if event.pdu.room_id() != pdu.room_id() => {
                let reason = format!("prev event {id} is of another room");
                rejection = Some(Rejection::new("PDU format", reason));
            }
            Some(event) if event.state_after.is_some() => {
                prevs.push((*event).clone());
                forks.extend(event.state_after.map(Fork::Snapshot));
            }
            _ => match gathered.states_after.get(id) {
                Some(state) => match given(rooms, head.room, state).await? {
                    Ok(map) => forks.push(Fork::Given(map)),
                    Err(missing) => need.auth.extend(missing),
                },
                None => need.prev.push(id.clone()),
            },
        }
    }
    if !need.prev.is_empty() || !need.auth.is_empty() {
        need.auth.sort_unstable();
        need.auth.dedup();
        return Ok(Gather::Need(need));
    }

    // 4. Passes authorisation rules based on the event's auth events, otherwise it is rejected.
    if let Err(refused) = allowed_by_auth_events(pdu, &auth_events) {
        rejection.get_or_insert(refused);
    }
    // A room begins once. (Its create event may come again as history.)
    if pdu.kind() == "m.room.create" {
        let own = own_create(rooms, head.snapshot).await?;
        rejection = rejection.or_else(|| other_create(pdu, own.as_deref()));
    }
    Ok(Gather::Found(Found {
        pdu: pdu.clone(),
        no,
        prevs,
        forks,
        rejection,
    }))
}

/// What the room began with, if we know its state.
pub(super) async fn own_create(
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
pub(super) fn other_create(pdu: &Pdu, own: Option<&EventId>) -> Option<Rejection> {
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
pub(super) async fn auth_events_of(
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

pub(super) fn allowed_by_auth_events(
    pdu: &Pdu,
    auth_events: &[(Arc<Pdu>, bool)],
) -> Result<(), Rejection> {
    auth::check_auth_events(pdu, auth_events)?;
    let state: Vec<Arc<Pdu>> = auth_events.iter().map(|(event, _)| event.clone()).collect();
    auth::authorize(pdu, &state)
}

/// A state that another server told, in numbers; or those of its events that we don't have. Rejected
/// events are left out of it.
async fn given(
    rooms: &Rooms,
    room: RoomNo,
    state: &StateMap,
) -> Result<Result<BTreeMap<KeyNo, EventNo>, Vec<OwnedEventId>>> {
    let ids: Vec<OwnedEventId> = state.values().cloned().collect();
    let stored = rooms.store().events(&ids).await?;
    let by_id: HashMap<&EventId, &Arc<StoredEvent>> = stored
        .iter()
        .map(|event| (event.pdu.event_id(), event))
        .collect();
    let mut names: Vec<(&str, &str)> = Vec::with_capacity(state.len());
    let mut nos: Vec<EventNo> = Vec::with_capacity(state.len());
    let mut missing = Vec::new();
    for (key, id) in state {
        match by_id.get(&**id) {
            Some(event) if event.room == room && event.status != Status::Rejected => {
                if event.pdu.is_state(&key.kind, &key.key) {
                    names.push((&key.kind, &key.key));
                    nos.push(event.no);
                }
            }
            Some(_) => {}
            None => missing.push(id.clone()),
        }
    }
    if !missing.is_empty() {
        return Ok(Err(missing));
    }
    let keys = rooms.store().key_nos(&names).await?;
    Ok(Ok(keys.into_iter().zip(nos).collect()))
}
