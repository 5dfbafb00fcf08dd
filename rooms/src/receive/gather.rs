//! What an event refers to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rhizome_protocol::{Pdu, Rejection, StateKey, resolve::StateMap};
use rhizome_storage::{
    EventNo, KeyNo, Placement, RoomHead, RoomNo, SnapshotNo, Status, StoredEvent,
};
use ruma::{EventId, OwnedEventId};

use super::{
    Gathered, Need,
    checks::{
        allowed_by_auth_events, auth_events_of, completes, is_same, is_whole_of, other_create,
        own_create,
    },
};
use crate::{Rooms, error::Result, state::Fork};

/// How many events of a told state are in memory at once: a large room's are not to be there all together.
const TOGETHER: usize = 1_000;

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
        let told = once_more || gathered.has_states();
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
    let Followed {
        prevs,
        forks,
        mut rejection,
    } = followed(rooms, head, pdu, gathered, &mut need).await?;
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

/// What an event follows.
#[derive(Default)]
struct Followed {
    prevs: Vec<Arc<StoredEvent>>,
    forks: Vec<Fork>,
    rejection: Option<Rejection>,
}

/// Looks for the prev events and the states after them. What is missing is added to `need`.
///
/// Where the state before the event was told, it meets the states that we know: whoever tells it can't make those fall
/// away.
async fn followed(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Pdu,
    gathered: &Gathered,
    need: &mut Need,
) -> Result<Followed> {
    let mut followed = Followed::default();
    let found = rooms.store().events(pdu.prev_events()).await?;
    let by_id: HashMap<&EventId, &Arc<StoredEvent>> = found
        .iter()
        .map(|event| (event.pdu.event_id(), event))
        .collect();
    let mut unknown = Vec::new();
    for id in pdu.prev_events() {
        match by_id.get(&**id) {
            Some(event) if event.pdu.room_id() != pdu.room_id() => {
                let reason = format!("prev event {id} is of another room");
                followed.rejection = Some(Rejection::new(Rejection::FORMAT, reason));
            }
            Some(event) if event.state_after.is_some() => {
                followed.prevs.push((*event).clone());
                followed.forks.extend(event.state_after.map(Fork::Snapshot));
            }
            _ => match gathered.states_after.get(id) {
                Some(state) => match given(rooms, head.room, pdu, state).await? {
                    Ok(map) => followed.forks.push(Fork::Given(map)),
                    Err(missing) => need.auth.extend(missing),
                },
                None => unknown.push(id.clone()),
            },
        }
    }
    if unknown.is_empty() {
        return Ok(followed);
    }
    match gathered.states_before.get(pdu.event_id()) {
        Some(state) => match given(rooms, head.room, pdu, state).await? {
            Ok(map) => followed.forks.push(Fork::Given(map)),
            Err(missing) => need.auth.extend(missing),
        },
        None => match stands_in(rooms, head, gathered).await? {
            Some(state) => followed.forks.push(Fork::Snapshot(state)),
            None => need.prev.extend(unknown),
        },
    }
    Ok(followed)
}

/// The state before our join, where the room is partial by that and it may stand in.
async fn stands_in(
    rooms: &Rooms,
    head: &RoomHead,
    gathered: &Gathered,
) -> Result<Option<SnapshotNo>> {
    let Some(join) = head.partial.filter(|_| gathered.stands_in) else {
        return Ok(None);
    };
    let join = rooms.store().event_by_no(join).await?;
    Ok(join.and_then(|join| join.state_before))
}

/// A state that another server told before `pdu`, in numbers; or those of its events that we don't have. Rejected
/// events are left out of it, and so is `pdu` itself, which can't be what allows it.
pub(crate) async fn given(
    rooms: &Rooms,
    room: RoomNo,
    pdu: &Pdu,
    state: &StateMap,
) -> Result<Result<BTreeMap<KeyNo, EventNo>, Vec<OwnedEventId>>> {
    let entries: Vec<(&StateKey, &OwnedEventId)> = state
        .iter()
        .filter(|(_, id)| id.as_str() != pdu.event_id().as_str())
        .collect();
    let mut map = BTreeMap::new();
    let mut missing = Vec::new();
    for part in entries.chunks(TOGETHER) {
        let ids: Vec<OwnedEventId> = part.iter().map(|(_, id)| (*id).clone()).collect();
        let stored = rooms.store().events(&ids).await?;
        let by_id: HashMap<&EventId, &Arc<StoredEvent>> = stored
            .iter()
            .map(|event| (event.pdu.event_id(), event))
            .collect();
        let mut names: Vec<(&str, &str)> = Vec::with_capacity(part.len());
        let mut nos: Vec<EventNo> = Vec::with_capacity(part.len());
        for (key, id) in part {
            match by_id.get(&***id) {
                Some(event) if event.room == room && event.status != Status::Rejected => {
                    if event.pdu.is_state(&key.kind, &key.key) {
                        names.push((&key.kind, &key.key));
                        nos.push(event.no);
                    }
                }
                Some(_) => {}
                None => missing.push((*id).clone()),
            }
        }
        if missing.is_empty() {
            let keys = rooms.store().key_nos(&names).await?;
            map.extend(keys.into_iter().zip(nos));
        }
    }
    Ok(if missing.is_empty() {
        Ok(map)
    } else {
        Err(missing)
    })
}
