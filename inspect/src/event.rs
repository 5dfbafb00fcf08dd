//! What became of an event, why, and what it changed.

use std::{collections::HashMap, sync::Arc};

use rhizome_rooms::Error;
use rhizome_storage::{EventNo, KeyNo, RoomHead, SnapshotNo, Store, StoredEvent};
use ruma::{EventId, OwnedEventId, OwnedRoomId};
use serde::Serialize;

use crate::Result;
use crate::{EventLine, ForkReport, Graph, Mention, around, fork, line::mentions};

/// An event with what led to it and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct EventReport {
    /// Its room.
    pub room_id: OwnedRoomId,
    /// The event, with the reason why it isn't accepted.
    pub event: EventLine,
    /// When its server says that it was made, in milliseconds since 1970.
    pub origin_server_ts: i64,
    /// Its place in the history: the log position if it came live, negative if it was fetched later, none
    /// if nobody sees it.
    pub order: Option<i64>,
    /// The redaction that was applied to it.
    pub redacted_by: Option<OwnedEventId>,
    /// What it follows.
    pub prev_events: Vec<Mention>,
    /// What it rests on.
    pub auth_events: Vec<Mention>,
    /// The snapshot before it; `None` for outliers and for what begins a room.
    pub state_before: Option<SnapshotNo>,
    /// The snapshot after it.
    pub state_after: Option<SnapshotNo>,
    /// How these two differ.
    pub changes: Vec<StateEffect>,
    /// How the states after its prevs became the one before it, if they are several.
    pub resolution: Option<ForkReport>,
    /// What is around it.
    pub around: Graph,
}

/// An entry of the state that an event changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateEffect {
    /// The event type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The state key.
    pub state_key: String,
    /// What was there.
    pub old: Option<OwnedEventId>,
    /// What is there.
    pub new: Option<OwnedEventId>,
}

/// More changes than this aren't told: an event makes one.
const MAX_CHANGES: usize = 100;

/// An event of the room, with `generations` of the graph around it.
///
/// # Errors
///
/// [`Error::UnknownEvent`] if it isn't stored, or belongs to another room.
pub async fn event(
    store: &Store,
    head: &RoomHead,
    id: &EventId,
    generations: usize,
) -> Result<EventReport> {
    let event = store.event(id).await?;
    let event = event
        .filter(|event| event.room == head.room)
        .ok_or_else(|| Error::UnknownEvent(id.to_owned()))?;
    let redacted_by = match event.redacted_by {
        Some(no) => store.event_ids(&[no]).await?.pop().map(|(_, id)| id),
        None => None,
    };
    let mut auth_ids = event.pdu.auth_events().to_vec();
    auth_ids.extend(event.pdu.implied_create());
    let prevs = prevs_of(store, &event).await?;
    let resolution = match &prevs {
        Some(prevs) => fork::explain(store, head, prevs, event.state_before).await?,
        None => None,
    };
    Ok(EventReport {
        room_id: head.room_id.clone(),
        event: EventLine::of(&event),
        origin_server_ts: event.pdu.origin_server_ts(),
        order: event.order,
        redacted_by,
        prev_events: mentions(store, event.pdu.prev_events()).await?,
        auth_events: mentions(store, &auth_ids).await?,
        state_before: event.state_before,
        state_after: event.state_after,
        changes: changes(store, &event).await?,
        resolution,
        around: around(store, head.room, &[event], generations).await?,
    })
}

/// The prevs of an event whose states its own was made of; `None` if one of them isn't known.
pub(crate) async fn prevs_of(
    store: &Store,
    event: &StoredEvent,
) -> Result<Option<Vec<Arc<StoredEvent>>>> {
    let ids = event.pdu.prev_events();
    let found = store.events(ids).await?;
    let found: HashMap<&EventId, &Arc<StoredEvent>> = found
        .iter()
        .map(|event| (event.pdu.event_id(), event))
        .collect();
    let mut prevs = Vec::with_capacity(ids.len());
    for id in ids {
        match found.get(&**id) {
            // Such an event is rejected for it; the prev counts for nothing.
            Some(prev) if prev.room != event.room => {}
            Some(prev) if prev.state_after.is_some() => prevs.push((*prev).clone()),
            _ => return Ok(None),
        }
    }
    Ok(Some(prevs))
}

async fn changes(store: &Store, event: &StoredEvent) -> Result<Vec<StateEffect>> {
    let mut diff = match (event.state_before, event.state_after) {
        (Some(before), Some(after)) => store.state_diff(before, after).await?,
        (None, Some(after)) => {
            let all = store.state_all(after).await?.into_iter();
            all.map(|(key, new)| (key, None, Some(new))).collect()
        }
        (_, None) => Vec::new(),
    };
    diff.truncate(MAX_CHANGES);
    let keys: Vec<KeyNo> = diff.iter().map(|(key, ..)| *key).collect();
    let nos: Vec<EventNo> = diff
        .iter()
        .flat_map(|(_, old, new)| [*old, *new])
        .flatten()
        .collect();
    let ids: HashMap<EventNo, OwnedEventId> = store.event_ids(&nos).await?.into_iter().collect();
    let id = |no: Option<EventNo>| no.and_then(|no| ids.get(&no).cloned());
    let keys = store.keys(&keys).await?;
    let change =
        |((_, old, new), key): ((KeyNo, _, _), &Arc<rhizome_protocol::StateKey>)| StateEffect {
            kind: key.kind.clone(),
            state_key: key.key.clone(),
            old: id(old),
            new: id(new),
        };
    Ok(diff.into_iter().zip(&keys).map(change).collect())
}
