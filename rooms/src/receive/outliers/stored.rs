//! What of the events is stored already.

use std::{collections::HashMap, sync::Arc};

use rhizome_protocol::{Rejection, rules::EventIdFormat};
use rhizome_storage::{EventNo, Status, StoredEvent};

use super::{BATCH, Fate, Storing};
use crate::{
    Error,
    error::Result,
    receive::{
        checks::{completes, is_same},
        restore::restore,
    },
};

impl Storing<'_> {
    /// What of all this is stored already.
    pub(super) async fn look_up(&mut self) -> Result<()> {
        let store = self.rooms.store();
        let indexes: Vec<usize> = (0..self.packed.names().len()).collect();
        for (ids, indexes) in self.packed.names().chunks(BATCH).zip(indexes.chunks(BATCH)) {
            let nos = store.event_nos(ids).await?;
            if nos.is_empty() {
                continue;
            }
            let known: Vec<EventNo> = nos.values().copied().collect();
            let events = store.events_by_no(&known).await?;
            let by_no: HashMap<EventNo, Arc<StoredEvent>> =
                events.into_iter().map(|event| (event.no, event)).collect();
            for (id, at) in ids.iter().zip(indexes) {
                if let Some(event) = nos.get(id).and_then(|no| by_no.get(no)) {
                    self.stored_before(*at, event)?;
                    self.complete_stored(*at, event).await?;
                }
            }
        }
        Ok(())
    }

    fn stored_before(&mut self, at: usize, event: &StoredEvent) -> Result<()> {
        let mut rejected = event.status == Status::Rejected;
        if self.packed.is_given(at) {
            if !self.is_same(at, event)? {
                rejected = true;
                let rejection = Rejection::new("event id", "another event has this id");
                self.outcome.rejected.insert(at, rejection);
            } else if rejected {
                let reason = event.reason.clone().unwrap_or_default();
                let rejection = Rejection::new("rejected before", reason);
                self.outcome.rejected.insert(at, rejection);
            }
        }
        self.outcome.fates[at] = Some(Fate {
            no: event.no,
            rejected,
            before: true,
        });
        Ok(())
    }

    /// Gives a stored event the content that it came without, if what was given has it.
    async fn complete_stored(&self, at: usize, event: &StoredEvent) -> Result<()> {
        let given = (self.packed.text(at))
            .filter(|text| text.json() != event.pdu.json() && event.status != Status::Rejected);
        let Some(given) = given else {
            return Ok(());
        };
        let given = given.parse().map_err(Error::Forbidden)?;
        if is_same(event, self.room, &given) && completes(event, &given) {
            restore(self.rooms, event, &given).await?;
        }
        Ok(())
    }

    /// Whether a stored event is the one that was given. Only where servers choose ids is that a question.
    fn is_same(&self, at: usize, event: &StoredEvent) -> Result<bool> {
        if self.packed.rules().format.event_id != EventIdFormat::Explicit {
            return Ok(true);
        }
        let Some(text) = self.packed.text(at) else {
            return Ok(true);
        };
        let given = text.parse().map_err(Error::Forbidden)?;
        Ok(is_same(event, self.room, &given))
    }
}
