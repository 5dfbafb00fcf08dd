//! Room state: immutable snapshots that share what they have in common.

use std::sync::Arc;

use crate::{EventNo, KeyNo, NewSnapshot, Result, RoomNo, SnapshotNo, Store, StoredEvent};

/// An entry of a state.
pub type StateEntry = (KeyNo, EventNo);
/// An entry that differs between two states.
pub type StateDiff = (KeyNo, Option<EventNo>, Option<EventNo>);

impl Store {
    /// The event of one entry.
    pub async fn state_entry(
        &self,
        _at: SnapshotNo,
        _kind: &str,
        _state_key: &str,
    ) -> Result<Option<EventNo>> {
        unimplemented!()
    }
    /// The event of one entry, loaded.
    pub async fn state_event(
        &self,
        _at: SnapshotNo,
        _kind: &str,
        _state_key: &str,
    ) -> Result<Option<Arc<StoredEvent>>> {
        unimplemented!()
    }
    /// The events of these entries, in their order.
    pub async fn state_entries(
        &self,
        _at: SnapshotNo,
        _keys: &[(&str, &str)],
    ) -> Result<Vec<Option<EventNo>>> {
        unimplemented!()
    }
    /// The whole state, in no particular order.
    pub async fn state_all(&self, _at: SnapshotNo) -> Result<Vec<StateEntry>> {
        unimplemented!()
    }
    /// What differs: entry, event in `a`, event in `b`. Skips what the two share.
    pub async fn state_diff(&self, _a: SnapshotNo, _b: SnapshotNo) -> Result<Vec<StateDiff>> {
        unimplemented!()
    }
    /// A new snapshot: `parent` with `changes` (`None` removes an entry). The parent may itself be a
    /// [`NewSnapshot`] that isn't committed, as long as that is held. Put it into
    /// [`RoomWrite::snapshots`](crate::RoomWrite::snapshots).
    pub async fn derive_snapshot(
        &self,
        _room: RoomNo,
        _parent: Option<SnapshotNo>,
        _changes: &[(KeyNo, Option<EventNo>)],
    ) -> Result<NewSnapshot> {
        unimplemented!()
    }
}
