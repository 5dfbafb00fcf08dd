//! The state of a room at any of its events.
//!
//! Every event of a room's history knows the snapshot before and after it. The state before a new event
//! is the resolution of the snapshots after its prevs; mostly they are one and the same, and nothing is
//! computed. Otherwise one of them is the base, the new snapshot shares all with it but the keys whose
//! resolution turned out otherwise.

mod difference;
mod learn;
mod loaded;
mod meeting;
mod merge;
mod resolved;
mod without_members;

use std::{collections::HashSet, sync::Arc};

use rhizome_protocol::Pdu;
use rhizome_storage::{EventNo, KeyNo, RoomHead, SnapshotNo, Store, StoredEvent};
use ruma::UserId;

use crate::{Rooms, error::Result};

pub use loaded::Loaded;
pub use without_members::before_without_members;

pub(crate) use {
    learn::{Learnt, MEMBER, learnt, with_learnt},
    meeting::Fork,
    merge::{resolve, resolve_with},
    resolved::{Resolved, derive},
};

/// The state, each with an empty state key, that tells somebody outside of a room what it is (client-server
/// API, "Stripped state"). What is told first is what matters most where not all of it has room.
pub const STRIPPED: [&str; 7] = [
    "m.room.create",
    "m.room.join_rules",
    "m.room.name",
    "m.room.topic",
    "m.room.avatar",
    "m.room.canonical_alias",
    "m.room.encryption",
];

/// The entries of [`STRIPPED`], and the membership of whoever `invites`.
pub fn stripped_keys(invites: Option<&UserId>) -> Vec<(&'static str, &str)> {
    let told = STRIPPED.iter().map(|kind| (*kind, ""));
    told.chain(invites.map(|user| ("m.room.member", user.as_str())))
        .collect()
}

/// All state events of a snapshot.
pub async fn events_at(rooms: &Rooms, at: SnapshotNo) -> Result<Vec<Arc<StoredEvent>>> {
    let all = rooms.store().state_all(at).await?;
    let nos: Vec<EventNo> = all.into_iter().map(|(_, event)| event).collect();
    Ok(rooms.store().events_by_no(&nos).await?)
}

/// The events of a state by which [`rhizome_protocol::power::Power`] is known.
pub async fn powers_at(store: &Store, at: SnapshotNo) -> Result<Vec<Arc<Pdu>>> {
    let keys = [("m.room.create", ""), ("m.room.power_levels", "")];
    let found = store.state_entries(at, &keys).await?;
    let nos: Vec<EventNo> = found.into_iter().flatten().collect();
    let events = store.events_by_no(&nos).await?;
    Ok(events.iter().map(|event| event.pdu.clone()).collect())
}

/// How many events' auth events are looked up at once.
const CHUNK: usize = 1_000;

/// What `/state`, `/state_ids` and `send_join` answer: the state before an event, and its auth chain. As
/// numbers: of a large room the events themselves are loaded piece by piece.
#[derive(Debug, Clone)]
pub struct StateBefore {
    /// The state events.
    pub state: Vec<EventNo>,
    /// The auth chain of those, without those themselves unless one is in another's chain
    /// ([`before_without_members`]: not even then).
    pub auth_chain: Vec<EventNo>,
}

/// The state before a stored event, with its auth chain. `None` if the state there isn't known
/// (an outlier).
pub async fn before(rooms: &Rooms, event: &StoredEvent) -> Result<Option<StateBefore>> {
    let entries = match event.state_before {
        Some(at) => rooms.store().state_all(at).await?,
        None if event.pdu.prev_events().is_empty() => Vec::new(),
        None => return Ok(None),
    };
    let mut state: Vec<EventNo> = entries.into_iter().map(|(_, event)| event).collect();
    // Stored one after the other, they are read quickest so.
    state.sort_unstable();
    let chain = chain_of(rooms, &state).await?;
    Ok(Some(StateBefore {
        state,
        auth_chain: sorted(chain),
    }))
}

/// The auth chain of some state events, without those themselves unless one is in another's chain.
async fn chain_of(rooms: &Rooms, state: &[EventNo]) -> Result<HashSet<EventNo>> {
    let mut chain = HashSet::new();
    for part in state.chunks(CHUNK) {
        chain.extend(rooms.store().auth_chain_nos(part).await?);
    }
    Ok(chain)
}

/// The auth chain of any event, without itself.
pub async fn auth_chain(rooms: &Rooms, event: &StoredEvent) -> Result<Vec<EventNo>> {
    let first = rooms.store().event_nos(event.pdu.auth_events()).await?;
    let first: Vec<EventNo> = first.into_values().collect();
    let mut chain = rooms.store().auth_chain_nos(&first).await?;
    chain.extend(first);
    Ok(sorted(chain))
}

fn sorted(nos: HashSet<EventNo>) -> Vec<EventNo> {
    let mut nos: Vec<EventNo> = nos.into_iter().collect();
    nos.sort_unstable();
    nos
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
