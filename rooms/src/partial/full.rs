//! States as other servers tell them, stored: the full one before the join, and those at gaps.

use std::collections::{BTreeMap, HashSet};

use rhizome_protocol::{Pdu, auth, resolve::StateMap};
use rhizome_storage::{EventNo, KeyNo, RoomHead, RoomNo, SnapshotNo};

use super::{keep, partial_head};
use crate::{
    Error, Rooms,
    error::Result,
    receive::{given, view_of},
    state::{self, MEMBER},
};

/// Makes the full state before the join of what another server tells of it: what was told at the join, and those members of
/// whom that said nothing. The events of `told` must have been stored.
///
/// # Errors
///
/// [`Error::BadState`] if it can't be that, as the join isn't allowed by it or some of it isn't here; or if the room isn't
/// partial.
pub async fn full_state(rooms: &Rooms, room: RoomNo, mut told: StateMap) -> Result<SnapshotNo> {
    let (head, join) = partial_head(rooms, room).await?;
    let store = rooms.store();
    let join = store.event_by_no(join).await?;
    let join = join.ok_or_else(|| Error::BadState("The join isn't stored".into()))?;
    let Some(partial) = join.state_before else {
        return Err(Error::BadState("Nothing was told at the join".into()));
    };
    told.retain(|key, _| key.kind == MEMBER);
    let members = numbered(rooms, &head, &join.pdu, &told).await?;
    drop(told);
    let there: HashSet<KeyNo> = (store.state_all(partial).await?.into_iter())
        .map(|(key, _)| key)
        .collect();
    let more = members.into_iter().filter(|(key, _)| !there.contains(key));
    let more = more.map(|(key, event)| (key, Some(event))).collect();
    let full = state::derive(store, room, Some(partial), more).await?;
    let view = view_of(rooms, &full, &join.pdu).await?;
    auth::authorize(&join.pdu, &view).map_err(|rejection| {
        Error::BadState(format!("Its members don't allow the join: {rejection}"))
    })?;
    keep(rooms, room, full.new).await?;
    Ok(full.snapshot.unwrap_or(partial))
}

/// A state that another server told after an event, which lies before `pdu`, as it differs from the `full` one.
///
/// # Errors
///
/// [`Error::BadState`] if some of it isn't here.
pub async fn told_state(
    rooms: &Rooms,
    room: RoomNo,
    pdu: &Pdu,
    full: SnapshotNo,
    told: &StateMap,
) -> Result<SnapshotNo> {
    let (head, _) = partial_head(rooms, room).await?;
    let store = rooms.store();
    let map = numbered(rooms, &head, pdu, told).await?;
    let base: BTreeMap<KeyNo, EventNo> = store.state_all(full).await?.into_iter().collect();
    let gone = base.keys().filter(|key| !map.contains_key(key));
    let mut changes: Vec<(KeyNo, Option<EventNo>)> = gone.map(|key| (*key, None)).collect();
    let other = map.into_iter();
    let other = other.filter(|(key, event)| base.get(key) != Some(event));
    changes.extend(other.map(|(key, event)| (key, Some(event))));
    let state = state::derive(store, room, Some(full), changes).await?;
    keep(rooms, room, state.new).await?;
    Ok(state.snapshot.unwrap_or(full))
}

async fn numbered(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Pdu,
    told: &StateMap,
) -> Result<BTreeMap<KeyNo, EventNo>> {
    let numbered = given(rooms, head.room, pdu, told).await?;
    numbered.map_err(|missing| {
        let count = missing.len();
        Error::BadState(format!(
            "{count} events of a state that was told aren't here"
        ))
    })
}
