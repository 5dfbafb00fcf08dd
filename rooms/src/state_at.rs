//! The state of a room at any of its events.
//!
//! Every event of a room's history knows the snapshot before and after it. The state before a new event
//! is the resolution of the snapshots after its prevs; mostly they are one and the same, and nothing is
//! computed. Otherwise one of them is the base, the new snapshot shares all with it but the keys whose
//! resolution turned out otherwise.

mod difference;
mod loaded;
mod meeting;
mod merge;
mod resolved;

use std::sync::Arc;

use rhizome_storage::{EventNo, KeyNo, RoomHead, SnapshotNo, StoredEvent};
use ruma::OwnedEventId;

use crate::{Rooms, error::Result};

pub(crate) use {
    meeting::Fork,
    merge::resolve,
    resolved::{Resolved, derive},
};

/// All state events of a snapshot.
pub async fn events_at(rooms: &Rooms, at: SnapshotNo) -> Result<Vec<Arc<StoredEvent>>> {
    let all = rooms.store().state_all(at).await?;
    let nos: Vec<EventNo> = all.into_iter().map(|(_, event)| event).collect();
    Ok(rooms.store().events_by_no(&nos).await?)
}

/// What `/state`, `/state_ids` and `send_join` answer: the state before an event, and its auth chain.
#[derive(Debug, Clone)]
pub struct StateBefore {
    /// The state events.
    pub state: Vec<Arc<StoredEvent>>,
    /// The auth chain of those, without those themselves unless one is in another's chain.
    pub auth_chain: Vec<OwnedEventId>,
}

/// The state before a stored event, with its auth chain. `None` if the state there isn't known
/// (an outlier).
pub async fn before(rooms: &Rooms, event: &StoredEvent) -> Result<Option<StateBefore>> {
    let state = match event.state_before {
        Some(at) => events_at(rooms, at).await?,
        None if event.pdu.prev_events().is_empty() => Vec::new(),
        None => return Ok(None),
    };
    let ids: Vec<OwnedEventId> = state
        .iter()
        .map(|event| event.pdu.event_id().to_owned())
        .collect();
    let auth_chain = rooms.store().auth_chain(&ids).await?;
    Ok(Some(StateBefore { state, auth_chain }))
}

/// What the states of a room's snapshots resolve to, told as the difference from the first of them: entries
/// that another event has there, or none. Nothing is stored.
pub async fn resolution(
    rooms: &Rooms,
    head: &RoomHead,
    states: &[SnapshotNo],
) -> Result<Vec<(KeyNo, Option<EventNo>)>> {
    let forks = states.iter().copied().map(Fork::Snapshot).collect();
    let resolved = resolve(rooms, head, forks, None).await?;
    let differing = resolved.diff_from(rooms.store(), states.first().copied());
    let changes = differing.await?.into_iter();
    Ok(changes.map(|(key, _, event)| (key, event)).collect())
}
