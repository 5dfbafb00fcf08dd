//! More ends than an event may name.
//!
//! An event of ours then rests on the state that the ends which it names make together, as every other server
//! computes it, and not on the current state, which rests on all. Both must allow it; and the current state
//! after it is the resolution of the state after it with those of the ends that it doesn't name.

use std::sync::Arc;

use rhizome_storage::{
    CurrentState, EventNo, NewEvent, NewSnapshot, RoomHead, RoomWrite, SnapshotNo, StateChange,
    Store, StoredEvent,
};
use ruma::OwnedEventId;

use crate::{
    Rooms,
    error::Result,
    send::view::View,
    state::{self, Fork},
};

/// See the module.
pub(super) struct Crowd {
    head: RoomHead,
    /// The states of the ends that aren't named.
    beside: Vec<Fork>,
    /// What the state before the event needs to be stored.
    new: Vec<NewSnapshot>,
    /// The current state, as far as anybody asked for it.
    pub(super) view: View,
}

impl Crowd {
    /// The room's ends, with the state that the named ones make. `view` must be of the current state.
    pub(super) async fn of(
        rooms: &Rooms,
        head: &RoomHead,
        named: &[OwnedEventId],
        view: View,
    ) -> Result<(Self, Option<SnapshotNo>)> {
        let nos: Vec<EventNo> = head.extremities.iter().map(|end| end.no).collect();
        let ends = rooms.store().events_by_no(&nos).await?;
        let is_named = |end: &Arc<StoredEvent>| named.iter().any(|id| id == end.pdu.event_id());
        let (named, beside): (Vec<_>, Vec<_>) = ends.into_iter().partition(is_named);
        let before = state::resolve(rooms, head, forks(&named), None).await?;
        let crowd = Self {
            head: head.clone(),
            beside: forks(&beside),
            new: before.new,
            view,
        };
        Ok((crowd, before.snapshot))
    }

    /// Loads entries of the current state.
    pub(super) async fn load(&mut self, store: &Store, keys: &[(&str, &str)]) -> Result<()> {
        self.view.load(store, self.head.snapshot, keys).await
    }

    /// What the room's current state is with `event`, which is in `write`.
    pub(super) async fn settle(
        &self,
        rooms: &Rooms,
        event: &NewEvent,
        write: &mut RoomWrite,
    ) -> Result<()> {
        let mut forks = self.beside.clone();
        forks.extend(event.state_after.map(Fork::Snapshot));
        let pending = Some((event.no, &event.pdu));
        let now = state::resolve(rooms, &self.head, forks, pending).await?;
        let differing = now.diff_from(rooms.store(), self.head.snapshot).await?;
        let changes: Vec<StateChange> = differing
            .into_iter()
            .map(|(key, old, new)| StateChange { key, old, new })
            .collect();
        let after = std::mem::replace(&mut write.snapshots, self.new.clone());
        write.snapshots.extend(after);
        if let (false, Some(snapshot)) = (changes.is_empty(), now.snapshot) {
            let known: Vec<SnapshotNo> = write.snapshots.iter().map(NewSnapshot::no).collect();
            let new = now.new.into_iter().filter(|new| !known.contains(&new.no()));
            write.snapshots.extend(new);
            write.current = Some(CurrentState { snapshot, changes });
        }
        Ok(())
    }
}

fn forks(ends: &[Arc<StoredEvent>]) -> Vec<Fork> {
    let states = ends.iter().filter_map(|end| end.state_after);
    states.map(Fork::Snapshot).collect()
}
