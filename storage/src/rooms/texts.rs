//! Stored events as text, for answers that only pass them on.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use rhizome_protocol::Pdu;
use ruma::OwnedEventId;

use crate::engine::sql::Columns as _;
use crate::{Error, EventNo, Result, Store, StoredEvent};

impl Store {
    /// The texts of the events with these numbers, in their order, as [`Pdu::json`] gives them: redacted
    /// where they are. A missing one is an error. They aren't parsed, and no cache keeps them.
    ///
    /// [`Pdu::json`]: rhizome_protocol::Pdu::json
    pub async fn event_texts(&self, nos: &[EventNo]) -> Result<Vec<Arc<str>>> {
        let mut found: HashMap<EventNo, Arc<str>> = HashMap::with_capacity(nos.len());
        let mut left = Vec::new();
        for no in nos {
            match self.remembered_event(*no) {
                Some(event) => drop(found.insert(*no, event.pdu.json().clone())),
                None => left.push(*no),
            }
        }
        let mut redacted = Vec::new();
        if !left.is_empty() {
            let query = self
                .sql("SELECT no, redacted_by, json FROM event WHERE no IN NUMBERS($1)")
                .numbers(left);
            for row in self.rows(query).await? {
                let no = row.get("no")?;
                match row.get::<Option<EventNo>>("redacted_by")? {
                    Some(_) => redacted.push(no),
                    None => drop(found.insert(no, row.get("json")?)),
                }
            }
        }
        // The database has what they were.
        for event in self.events_by_no(&redacted).await? {
            found.insert(event.no, event.pdu.json().clone());
        }
        in_order(nos, &found)
    }

    /// A stored event as it was before a redaction, which it still names.
    pub async fn unredacted(&self, no: EventNo) -> Result<Option<StoredEvent>> {
        let Some(event) = self.event_by_no(no).await? else {
            return Ok(None);
        };
        let query = self.sql("SELECT json FROM event WHERE no = $1").bind(no);
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        let rules = event.pdu.rules();
        let pdu = Pdu::from_stored(rules, event.pdu.event_id().to_owned(), row.get("json")?)
            .map_err(|error| Error::broken(format!("event {no} is damaged: {error}")))?;
        Ok(Some(StoredEvent {
            pdu: Arc::new(pdu),
            client: OnceLock::new(),
            ..StoredEvent::clone(&event)
        }))
    }

    /// The ids of the events with these numbers, in their order; a missing one is an error.
    pub async fn event_ids_of(&self, nos: &[EventNo]) -> Result<Vec<OwnedEventId>> {
        let found: HashMap<EventNo, OwnedEventId> =
            self.event_ids(nos).await?.into_iter().collect();
        in_order(nos, &found)
    }
}

fn in_order<T: Clone>(nos: &[EventNo], found: &HashMap<EventNo, T>) -> Result<Vec<T>> {
    nos.iter()
        .map(|no| found.get(no).cloned())
        .collect::<Option<_>>()
        .ok_or_else(|| Error::broken("an event that is referred to is not stored"))
}
