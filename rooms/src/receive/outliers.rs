//! Events without a place in the room's history.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{Pdu, Rejection, RoomRules};
use rhizome_storage::{CommitError, NewEvent, RoomNo, RoomWrite, Status};
use ruma::{EventId, OwnedEventId, RoomId};

use super::{
    gather::{allowed_by_auth_events, auth_events_of, is_same},
    only,
};
use crate::{Error, Rooms, error::Result, send::commit_error};

/// How many outliers go into one write set.
const OUTLIER_BATCH: usize = 200;

/// What became of a batch of outliers.
#[derive(Debug, Clone, Default)]
pub struct Outliers {
    /// Stored now, or before, and allowed by their auth events.
    pub accepted: HashSet<OwnedEventId>,
    /// Stored with the reason why their auth events don't allow them.
    pub rejected: HashMap<OwnedEventId, Rejection>,
    /// Not stored: auth events of these are neither among them nor stored.
    pub incomplete: HashMap<OwnedEventId, Vec<OwnedEventId>>,
}

/// Stores events without a place in the room's history: state and auth chains that other servers gave.
/// They may come in any order. Each is checked against its auth events (step 4).
pub async fn outliers(rooms: &Rooms, room_id: &RoomId, pdus: Vec<Arc<Pdu>>) -> Result<Outliers> {
    let head = rooms
        .store()
        .room(room_id)
        .await?
        .ok_or_else(|| Error::UnknownRoom(room_id.to_owned()))?;
    store_outliers(rooms, head.room, head.rules, room_id, pdus).await
}

pub(crate) async fn store_outliers(
    rooms: &Rooms,
    room: RoomNo,
    rules: &'static RoomRules,
    room_id: &RoomId,
    pdus: Vec<Arc<Pdu>>,
) -> Result<Outliers> {
    let store = rooms.store();
    let mut report = Outliers::default();
    let mut checked: HashMap<OwnedEventId, (Arc<Pdu>, bool)> = HashMap::new();
    let ids: Vec<OwnedEventId> = pdus.iter().map(|pdu| pdu.event_id().to_owned()).collect();
    let given: HashMap<&EventId, &Arc<Pdu>> =
        pdus.iter().map(|pdu| (pdu.event_id(), pdu)).collect();
    for event in store.events(&ids).await? {
        let id = event.pdu.event_id().to_owned();
        let given = given.get(&*id);
        let taken = given.is_some_and(|pdu| !is_same(&event, room, pdu));
        let rejected = taken || event.status == Status::Rejected;
        if taken {
            let rejection = Rejection::new("event id", "another event has this id");
            report.rejected.insert(id.clone(), rejection);
        } else if rejected {
            let reason = event.reason.clone().unwrap_or_default();
            report
                .rejected
                .insert(id.clone(), Rejection::new("rejected before", reason));
        } else {
            report.accepted.insert(id.clone());
        }
        checked.insert(id, (event.pdu.clone(), rejected));
    }
    let mut fresh: Vec<NewEvent> = Vec::new();
    for pdu in parents_first(pdus) {
        let id = pdu.event_id().to_owned();
        if checked.contains_key(&id) || pdu.room_id() != room_id || pdu.rules() != rules {
            continue;
        }
        let auth_events = match auth_events_of(rooms, &pdu, &checked).await? {
            Ok(events) => events,
            Err(missing) => {
                report.incomplete.insert(id, missing);
                continue;
            }
        };
        let mut event = NewEvent::outlier(store.next_event_no().await?, pdu.clone());
        let rejected = match allowed_by_auth_events(&pdu, &auth_events) {
            Ok(()) => {
                report.accepted.insert(id.clone());
                false
            }
            Err(rejection) => {
                event.status = Status::Rejected;
                event.reason = Some(rejection.to_string());
                report.rejected.insert(id.clone(), rejection);
                true
            }
        };
        checked.insert(id, (pdu, rejected));
        fresh.push(event);
    }
    while !fresh.is_empty() {
        let rest = fresh.split_off(fresh.len().min(OUTLIER_BATCH));
        let batch = std::mem::replace(&mut fresh, rest);
        store_batch(rooms, room, batch).await?;
    }
    Ok(report)
}

/// Stores a batch; what another task stored in between is left out.
async fn store_batch(rooms: &Rooms, room: RoomNo, mut batch: Vec<NewEvent>) -> Result<()> {
    loop {
        if batch.is_empty() {
            return Ok(());
        }
        let write = RoomWrite {
            room,
            events: batch.clone(),
            ..RoomWrite::default()
        };
        match rooms.store().commit(only(write)).await {
            Ok(_) => return Ok(()),
            Err(CommitError::DuplicateEvent { event_id, .. }) => {
                let before = batch.len();
                batch.retain(|event| event.pdu.event_id() != event_id);
                if batch.len() == before {
                    return Err(Error::Contended);
                }
            }
            Err(error) => return Err(commit_error(error)),
        }
    }
}

/// Auth events before what they allow. Events in a circle (which hashes make impossible) are dropped.
fn parents_first(pdus: Vec<Arc<Pdu>>) -> Vec<Arc<Pdu>> {
    order_by(pdus, |pdu| {
        let mut parents = pdu.auth_events().to_vec();
        parents.extend(pdu.implied_create());
        parents
    })
}

/// Parents, as `parents_of` names them, before their children; each event once.
pub(super) fn order_by(
    pdus: Vec<Arc<Pdu>>,
    parents_of: impl Fn(&Pdu) -> Vec<OwnedEventId>,
) -> Vec<Arc<Pdu>> {
    let mut by_id: BTreeMap<OwnedEventId, Arc<Pdu>> = BTreeMap::new();
    let mut waits: HashMap<OwnedEventId, usize> = HashMap::new();
    let mut children: HashMap<OwnedEventId, Vec<OwnedEventId>> = HashMap::new();
    for pdu in pdus {
        by_id.insert(pdu.event_id().to_owned(), pdu);
    }
    let mut ready: Vec<OwnedEventId> = Vec::new();
    for (id, pdu) in &by_id {
        let mut parents: Vec<OwnedEventId> = parents_of(pdu)
            .into_iter()
            .filter(|parent| by_id.contains_key(parent))
            .collect();
        parents.sort_unstable();
        parents.dedup();
        if parents.is_empty() {
            ready.push(id.clone());
        }
        waits.insert(id.clone(), parents.len());
        for parent in parents {
            children.entry(parent).or_default().push(id.clone());
        }
    }
    let mut ordered = Vec::with_capacity(by_id.len());
    while let Some(id) = ready.pop() {
        for child in children.remove(&id).unwrap_or_default() {
            if let Some(count) = waits.get_mut(&child) {
                *count -= 1;
                if *count == 0 {
                    ready.push(child);
                }
            }
        }
        ordered.extend(by_id.get(&id).cloned());
    }
    ordered
}
