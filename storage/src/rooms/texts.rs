//! Stored events as text, for answers that only pass them on.

use std::collections::HashMap;
use std::sync::Arc;

use ruma::OwnedEventId;

use crate::engine::db::{Columns as _, json_numbers};
use crate::{Error, EventNo, Result, Store};

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
                None => left.push(no.0),
            }
        }
        let mut redacted = Vec::new();
        if !left.is_empty() {
            let query = self
                .sql(
                    "SELECT no, redacted_by, json FROM event WHERE no IN \
                     (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1))",
                )
                .bind(json_numbers(left));
            for row in self.rows(query).await? {
                let no = EventNo(row.int(0)?);
                match row.int_opt(1)? {
                    Some(_) => redacted.push(no),
                    None => drop(found.insert(no, row.raw(2)?.into())),
                }
            }
        }
        // The database has what they were.
        for event in self.events_by_no(&redacted).await? {
            found.insert(event.no, event.pdu.json().clone());
        }
        in_order(nos, &found)
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
