//! Resolution as the textbook has it, over whole states.

use std::{collections::BTreeMap, sync::Arc};

use rhizome_protocol::{Pdu, RoomRules, StateKey, resolve};
use rhizome_rooms::Rooms;
use rhizome_storage::{SnapshotNo, Status, StoredEvent};
use ruma::{EventId, OwnedEventId};

pub async fn state_map(rooms: &Rooms, at: Option<SnapshotNo>) -> BTreeMap<StateKey, OwnedEventId> {
    let mut map = BTreeMap::new();
    let Some(at) = at else { return map };
    for (key, event) in rooms.store().state_all(at).await.unwrap() {
        let event = rooms.store().event_by_no(event).await.unwrap().unwrap();
        let key = rooms.store().key(key).await.unwrap();
        map.insert(StateKey::clone(&key), event.pdu.event_id().to_owned());
    }
    map
}

/// The state before an event as the textbook's algorithm makes it from the whole states after its prevs.
pub async fn by_the_textbook(
    rooms: &Rooms,
    event: &StoredEvent,
) -> Option<BTreeMap<StateKey, OwnedEventId>> {
    let prevs = rooms.store().events(event.pdu.prev_events()).await.unwrap();
    let mut states = Vec::new();
    for prev in &prevs {
        states.push(prev.state_after?);
    }
    if states.len() < event.pdu.prev_events().len() {
        return None;
    }
    Some(resolution(rooms, event.pdu.rules(), &states).await)
}

pub async fn resolution(
    rooms: &Rooms,
    rules: &RoomRules,
    states: &[SnapshotNo],
) -> BTreeMap<StateKey, OwnedEventId> {
    let mut forks = Vec::new();
    let mut wanted = Vec::new();
    for state in states {
        let fork = state_map(rooms, Some(*state)).await;
        wanted.extend(fork.values().cloned());
        forks.push(fork);
    }
    wanted.extend(rooms.store().auth_chain(&wanted).await.unwrap());
    let events = rooms.store().events(&wanted).await.unwrap();
    let events = events
        .into_iter()
        .map(|event| (event.pdu.event_id().to_owned(), event));
    resolve::resolve(rules, &forks, &Whole(events.collect())).unwrap()
}

struct Whole(BTreeMap<OwnedEventId, Arc<StoredEvent>>);

impl resolve::Events for Whole {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.0.get(id).map(|event| event.pdu.clone())
    }
    fn rejected(&self, id: &EventId) -> bool {
        self.0
            .get(id)
            .is_some_and(|event| event.status == Status::Rejected)
    }
}
