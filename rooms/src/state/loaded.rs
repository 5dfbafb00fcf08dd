//! The events that a resolution has looked at.

use std::{collections::HashMap, sync::Arc};

use rhizome_protocol::{Pdu, resolve::Events};
use rhizome_storage::{EventNo, Status, Store, StoredEvent};
use ruma::{EventId, OwnedEventId};

use crate::error::Result;

/// Events with whether each was rejected: what `protocol`'s resolution asks for, read piece by piece as it
/// asks.
pub struct Loaded<'a> {
    store: &'a Store,
    events: HashMap<OwnedEventId, (EventNo, Arc<Pdu>, bool)>,
    ids: HashMap<EventNo, OwnedEventId>,
}

impl<'a> Loaded<'a> {
    /// None yet.
    pub fn new(store: &'a Store) -> Self {
        Self {
            store,
            events: HashMap::new(),
            ids: HashMap::new(),
        }
    }

    pub(super) fn put(&mut self, no: EventNo, pdu: Arc<Pdu>, rejected: bool) {
        let id = pdu.event_id().to_owned();
        self.ids.insert(no, id.clone());
        self.events.insert(id, (no, pdu, rejected));
    }

    fn put_stored(&mut self, events: &[Arc<StoredEvent>]) {
        for event in events {
            let rejected = event.status == Status::Rejected;
            self.put(event.no, event.pdu.clone(), rejected);
        }
    }

    /// Loads these; one that isn't stored is an error.
    pub(super) async fn load(&mut self, nos: impl IntoIterator<Item = EventNo>) -> Result<()> {
        let mut unknown: Vec<EventNo> = nos
            .into_iter()
            .filter(|no| !self.ids.contains_key(no))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        unknown.sort_unstable();
        unknown.dedup();
        let events = self.store.events_by_no(&unknown).await?;
        self.put_stored(&events);
        Ok(())
    }

    /// Loads those of these that are stored.
    pub async fn load_ids(&mut self, ids: impl IntoIterator<Item = OwnedEventId>) -> Result<()> {
        let unknown: Vec<OwnedEventId> = ids
            .into_iter()
            .filter(|id| !self.events.contains_key(id))
            .collect();
        if !unknown.is_empty() {
            let events = self.store.events(&unknown).await?;
            self.put_stored(&events);
        }
        Ok(())
    }

    /// An event that was loaded.
    pub(super) fn pdu(&self, no: EventNo) -> Option<&Arc<Pdu>> {
        let id = self.ids.get(&no)?;
        self.events.get(id).map(|(_, pdu, _)| pdu)
    }

    /// The id of an event that was loaded.
    pub(super) fn id(&self, no: EventNo) -> Option<&OwnedEventId> {
        self.ids.get(&no)
    }

    /// The number of an event that was loaded.
    pub(super) fn no(&self, id: &EventId) -> Option<EventNo> {
        self.events.get(id).map(|(no, ..)| *no)
    }
}

impl Events for Loaded<'_> {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.events.get(id).map(|(_, pdu, _)| pdu.clone())
    }

    fn rejected(&self, id: &EventId) -> bool {
        self.events
            .get(id)
            .is_some_and(|(_, _, rejected)| *rejected)
    }
}
