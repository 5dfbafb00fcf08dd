//! Stored events.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ruma::{EventId, OwnedEventId};

use crate::{EventNo, Result, RoomNo, Store, StoredEvent};

impl Store {
    /// The event with this id, whatever became of it.
    pub async fn event(&self, _id: &EventId) -> Result<Option<Arc<StoredEvent>>> {
        unimplemented!()
    }
    /// Those of the events that are stored, in no particular order.
    pub async fn events(&self, _ids: &[OwnedEventId]) -> Result<Vec<Arc<StoredEvent>>> {
        unimplemented!()
    }
    /// The event with this number.
    pub async fn event_by_no(&self, _no: EventNo) -> Result<Option<Arc<StoredEvent>>> {
        unimplemented!()
    }
    /// The events with these numbers, in their order; missing ones are an error.
    pub async fn events_by_no(&self, _nos: &[EventNo]) -> Result<Vec<Arc<StoredEvent>>> {
        unimplemented!()
    }
    /// The numbers of those of the events that are stored.
    pub async fn event_nos(&self, _ids: &[OwnedEventId]) -> Result<HashMap<OwnedEventId, EventNo>> {
        unimplemented!()
    }
    /// Those of the events that are stored (outliers and rejected ones too).
    pub async fn known_event_ids(&self, _ids: &[OwnedEventId]) -> Result<HashSet<OwnedEventId>> {
        unimplemented!()
    }
    /// Everything that the events' auth events lead to, parents after children; `of` itself only if
    /// it can be reached from another of them. Follows what is stored.
    pub async fn auth_chain(&self, _of: &[OwnedEventId]) -> Result<Vec<OwnedEventId>> {
        unimplemented!()
    }
    /// The same by number, in no particular order.
    pub async fn auth_chain_nos(&self, _of: &[EventNo]) -> Result<HashSet<EventNo>> {
        unimplemented!()
    }
    /// The events that are in the auth chains (each taken with its own start) of some, not of all of
    /// the sets: the auth difference of state resolution.
    pub async fn auth_difference(&self, _sets: &[Vec<EventNo>]) -> Result<Vec<EventNo>> {
        unimplemented!()
    }
    /// The room's backward extremities: events that we lack and the stored event that names them.
    pub async fn missing_prev_events(
        &self,
        _room: RoomNo,
        _limit: usize,
    ) -> Result<Vec<(OwnedEventId, EventNo)>> {
        unimplemented!()
    }
}
