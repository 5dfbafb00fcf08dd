//! What is there of a room.

use std::collections::BTreeMap;

use rhizome_storage::{EventNo, RoomHead, SnapshotNo, Store};
use ruma::{OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName};
use serde::Serialize;

use crate::Result;
use crate::{
    EventLine, ForkReport, fork,
    line::{placement, status},
};

/// A room at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct RoomReport {
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: String,
    /// Its aliases on this server.
    pub aliases: Vec<OwnedRoomAliasId>,
    /// How often its current state has changed.
    pub state_version: i64,
    /// The current state's snapshot.
    pub snapshot: Option<SnapshotNo>,
    /// The forward extremities: what the next event will follow.
    pub heads: Vec<EventLine>,
    /// How the heads' states became the current one, if they are several.
    pub resolution: Option<ForkReport>,
    /// Events that the stored history follows and lacks, at most as many as were asked for.
    pub gaps: Vec<Gap>,
    /// How many members, by membership.
    pub members: BTreeMap<String, i64>,
    /// Whether it was joined before its members were known, and not all of them are known yet.
    pub partial: bool,
    /// The servers with joined users.
    pub servers: Vec<OwnedServerName>,
    /// How many events, by status, then by placement.
    pub events: BTreeMap<&'static str, BTreeMap<&'static str, i64>>,
    /// What its state takes.
    pub snapshots: Snapshots,
    /// The deepest rejected and soft-failed events, at most as many as were asked for.
    pub refused: Vec<EventLine>,
}

/// A hole in the stored history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The event that we lack.
    pub missing: OwnedEventId,
    /// A stored event that follows it.
    pub named_by: OwnedEventId,
}

/// What a room's state takes in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshots {
    /// Stored snapshots.
    pub count: i64,
    /// Their bytes together.
    pub bytes: i64,
    /// Events that changed the state.
    pub state_events: i64,
    /// Bytes for one of these, on average; nothing in a room without any.
    pub bytes_per_state_event: Option<i64>,
    /// Entries of the current state.
    pub current_entries: i64,
}

/// A room at a glance, with at most `limit` gaps and as many refused events.
pub async fn room(store: &Store, head: &RoomHead, limit: usize) -> Result<RoomReport> {
    let room = head.room;
    let nos: Vec<EventNo> = head.extremities.iter().map(|end| end.no).collect();
    let ends = store.events_by_no(&nos).await?;
    let resolution = fork::explain(store, head, &ends, head.snapshot).await?;
    let mut members = BTreeMap::new();
    for (membership, count) in store.membership_counts(room).await? {
        members.insert(membership.as_str().to_owned(), count);
    }
    let mut events: BTreeMap<_, BTreeMap<_, i64>> = BTreeMap::new();
    for group in store.event_counts(room).await? {
        let of_status = events.entry(status(group.status)).or_default();
        *of_status.entry(placement(group.placement)).or_default() += group.count;
    }
    let refused = store.refused_events(room, limit).await?;
    Ok(RoomReport {
        room_id: head.room_id.clone(),
        version: head.rules.id().to_owned(),
        aliases: store.aliases_of(room).await?,
        state_version: head.state_version,
        snapshot: head.snapshot,
        heads: ends.iter().map(|event| EventLine::of(event)).collect(),
        resolution,
        gaps: gaps(store, head, limit).await?,
        members,
        partial: head.partial.is_some(),
        servers: store.joined_servers(room).await?.to_vec(),
        events,
        snapshots: snapshots(store, head).await?,
        refused: refused.iter().map(|event| EventLine::of(event)).collect(),
    })
}

async fn gaps(store: &Store, head: &RoomHead, limit: usize) -> Result<Vec<Gap>> {
    let found = store.missing_prev_events(head.room, limit).await?;
    let nos: Vec<EventNo> = found.iter().map(|(_, no)| *no).collect();
    let names: BTreeMap<EventNo, OwnedEventId> = store.event_ids(&nos).await?.into_iter().collect();
    let gap = |(missing, no)| {
        Some(Gap {
            missing,
            named_by: names.get(&no)?.clone(),
        })
    };
    Ok(found.into_iter().filter_map(gap).collect())
}

async fn snapshots(store: &Store, head: &RoomHead) -> Result<Snapshots> {
    let sizes = store.snapshot_sizes(head.room).await?;
    Ok(Snapshots {
        count: sizes.snapshots,
        bytes: sizes.bytes,
        state_events: sizes.state_events,
        bytes_per_state_event: sizes.bytes.checked_div(sizes.state_events),
        current_entries: sizes.entries,
    })
}
