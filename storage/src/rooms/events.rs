//! Stored events.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use rhizome_protocol::Membership;
use ruma::{EventId, OwnedEventId};

use crate::engine::sql::{Columns as _, Query, ReadRow};
use crate::rooms::stored_event::event_of;
use crate::{Error, EventNo, Result, RoomNo, Store, StoredEvent};

/// Everything of events, for [`event_of`]; what follows chooses which.
macro_rules! concat_events {
    ($which:literal) => {
        concat!(
            "SELECT e.no, e.event_id, e.room, e.ord, e.depth, e.status, e.placement, e.state_before, \
             e.state_after, e.visibility, e.redacted_by, e.reason, e.txn, e.json, r.version \
             FROM event e JOIN room r ON r.no = e.room ",
            $which
        )
    };
}

impl Store {
    /// The event with this id, whatever became of it.
    pub async fn event(&self, id: &EventId) -> Result<Option<Arc<StoredEvent>>> {
        match self.core.caches.event_ids.get(id) {
            Some(no) => self.event_by_no(no).await,
            None => Ok(self.events(&[id.to_owned()]).await?.pop()),
        }
    }

    /// Those of the events that are stored, in no particular order, each once.
    pub async fn events(&self, ids: &[OwnedEventId]) -> Result<Vec<Arc<StoredEvent>>> {
        let mut found = Vec::with_capacity(ids.len());
        let mut left = BTreeSet::new();
        for id in ids.iter().collect::<BTreeSet<_>>() {
            let no = self.core.caches.event_ids.get(id);
            match no.and_then(|no| self.remembered_event(no)) {
                Some(event) => found.push(event),
                None => drop(left.insert(id)),
            }
        }
        if !left.is_empty() {
            let moment = self.core.caches.events.moment();
            let query = self.sql(BY_IDS).texts(left.iter().map(|id| id.as_str()));
            for row in self.rows(query).await? {
                found.push(self.read_event(moment, &row)?);
            }
        }
        Ok(found)
    }

    /// The event with this number.
    pub async fn event_by_no(&self, no: EventNo) -> Result<Option<Arc<StoredEvent>>> {
        match self.remembered_event(no) {
            Some(event) => Ok(Some(event)),
            None => Ok(self.load_events(&[no]).await?.pop()),
        }
    }

    /// The events with these numbers, in their order; a missing one is an error.
    pub async fn events_by_no(&self, nos: &[EventNo]) -> Result<Vec<Arc<StoredEvent>>> {
        let none = HashMap::with_capacity(nos.len());
        self.events_besides(none, nos).await
    }

    /// The same, of which some have been read already.
    async fn events_besides(
        &self,
        mut found: HashMap<EventNo, Arc<StoredEvent>>,
        nos: &[EventNo],
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let mut left = Vec::new();
        for no in nos {
            if found.contains_key(no) {
                continue;
            }
            match self.remembered_event(*no) {
                Some(event) => drop(found.insert(*no, event)),
                None => left.push(*no),
            }
        }
        for event in self.load_events(&left).await? {
            found.insert(event.no, event);
        }
        nos.iter()
            .map(|no| found.get(no).cloned())
            .collect::<Option<_>>()
            .ok_or_else(|| Error::broken("an event that is referred to is not stored"))
    }

    /// The events whose numbers a query lists as `no`, in its order.
    pub(crate) async fn listed(&self, query: Query) -> Result<Vec<Arc<StoredEvent>>> {
        let moment = self.core.caches.events.moment();
        let store = self.clone();
        // What isn't remembered of them is read where they are listed: nobody is woken in between.
        let left = move |rows: &[ReadRow]| {
            // Whoever lists them says what is wrong with a number.
            let nos = numbers(rows).unwrap_or_default().into_iter();
            let left: Vec<EventNo> = nos
                .filter(|no| store.remembered_event(*no).is_none())
                .collect();
            (!left.is_empty()).then(|| store.event_query(&left))
        };
        let (listed, read) = self.rows_then(query, left).await?;
        let mut found = HashMap::with_capacity(listed.len());
        for row in &read {
            let event = self.read_event(moment, row)?;
            found.insert(event.no, event);
        }
        let nos = numbers(&listed)?;
        self.events_besides(found, &nos).await
    }

    /// The numbers of those of the events that are stored.
    pub async fn event_nos(&self, ids: &[OwnedEventId]) -> Result<HashMap<OwnedEventId, EventNo>> {
        let mut found = HashMap::with_capacity(ids.len());
        let mut left = Vec::new();
        for id in ids {
            match self.core.caches.event_ids.get(id) {
                Some(no) => drop(found.insert(id.clone(), no)),
                None => left.push(id.as_str()),
            }
        }
        if !left.is_empty() {
            let query = self
                .sql("SELECT no, event_id FROM event WHERE event_id IN TEXTS($1)")
                .texts(left);
            for row in self.rows(query).await? {
                let (no, id): (EventNo, OwnedEventId) = (row.get("no")?, row.get("event_id")?);
                self.core.caches.event_ids.insert(id.clone(), no);
                found.insert(id, no);
            }
        }
        Ok(found)
    }

    /// The ids of stored events, in no particular order.
    pub async fn event_ids(&self, nos: &[EventNo]) -> Result<Vec<(EventNo, OwnedEventId)>> {
        let mut found = Vec::with_capacity(nos.len());
        let mut left = Vec::new();
        for no in nos {
            match self.remembered_event(*no) {
                Some(event) => found.push((*no, event.pdu.event_id().to_owned())),
                None => left.push(*no),
            }
        }
        if !left.is_empty() {
            let query = self
                .sql("SELECT no, event_id FROM event WHERE no IN NUMBERS($1)")
                .numbers(left);
            for row in self.rows(query).await? {
                found.push((row.get("no")?, row.get("event_id")?));
            }
        }
        Ok(found)
    }

    /// What stored member events say; those that say nothing are left out. Reads no more of them than that.
    pub(crate) async fn memberships_told(
        &self,
        nos: &[EventNo],
    ) -> Result<HashMap<EventNo, Membership>> {
        let mut found = HashMap::with_capacity(nos.len());
        let mut left = Vec::new();
        for no in nos {
            match self.remembered_event(*no) {
                Some(event) => found.extend(event.pdu.membership().map(|told| (*no, told))),
                None => left.push(*no),
            }
        }
        if left.is_empty() {
            return Ok(found);
        }
        let query = self
            .sql("SELECT no, json FROM event WHERE no IN NUMBERS($1)")
            .numbers(left);
        for row in self.rows(query).await? {
            let no = row.get("no")?;
            let event: MemberEvent = serde_json::from_str(&row.get::<String>("json")?)?;
            let told = event.content.membership;
            let told = told.as_str().and_then(Membership::parse);
            found.extend(told.map(|told| (no, told)));
        }
        Ok(found)
    }

    /// Those of the events that are stored (outliers and rejected ones too).
    pub async fn known_event_ids(&self, ids: &[OwnedEventId]) -> Result<HashSet<OwnedEventId>> {
        Ok(self.event_nos(ids).await?.into_keys().collect())
    }

    /// The room's backward extremities: events that we lack, and the stored event that names them.
    pub async fn missing_prev_events(
        &self,
        room: RoomNo,
        limit: usize,
    ) -> Result<Vec<(OwnedEventId, EventNo)>> {
        let query = self
            .sql(
                "SELECT m.missing, m.event FROM missing_prev m JOIN event e ON e.no = m.event \
                 WHERE m.room = $1 ORDER BY e.depth DESC, m.missing LIMIT $2",
            )
            .bind(room)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| Ok((row.get("missing")?, row.get("event")?)))
            .collect()
    }

    /// Whether a stored event of the room has this one, which isn't part of the history yet, among its
    /// `prev_events`: then it came late, and may be no extremity.
    pub async fn is_missing_prev(&self, room: RoomNo, id: &EventId) -> Result<bool> {
        let query = self
            .sql("SELECT event FROM missing_prev WHERE missing = $1 AND room = $2 LIMIT 1")
            .bind(id)
            .bind(room);
        Ok(self.row(query).await?.is_some())
    }

    /// Events that the room's history lacks, though stored ones name them as `prev_events`, at most `limit`.
    pub async fn missing_prevs(&self, room: RoomNo, limit: usize) -> Result<Vec<OwnedEventId>> {
        let query = self
            .sql(
                "SELECT missing FROM missing_prev WHERE room = $1 \
                 GROUP BY missing ORDER BY MAX(event) DESC LIMIT $2",
            )
            .bind(room)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("missing")).collect()
    }

    /// Of events that a room's history lacks: the least depth of the stored events that follow them.
    /// Those that nothing there follows are left out.
    pub async fn depths_after(
        &self,
        room: RoomNo,
        missing: &[OwnedEventId],
    ) -> Result<HashMap<OwnedEventId, i64>> {
        let query = self
            .sql(
                "SELECT m.missing, MIN(e.depth) AS depth FROM missing_prev m JOIN event e ON e.no = m.event \
                 WHERE m.missing IN TEXTS($1) AND m.room = $2 \
                 GROUP BY m.missing",
            )
            .texts(missing.iter().map(|id| id.as_str()))
            .bind(room);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| Ok((row.get("missing")?, row.get("depth")?)))
            .collect()
    }

    /// Those of the events of a room's history that have `prev_events` which we lack, with these: before
    /// them the stored history has a gap.
    ///
    /// That an event has none is remembered: its `prev_events` stay.
    pub async fn gaps_before(
        &self,
        room: RoomNo,
        nos: &[EventNo],
    ) -> Result<HashMap<EventNo, Vec<OwnedEventId>>> {
        let gapless = &self.core.caches.gapless;
        let asked: Vec<EventNo> = nos
            .iter()
            .copied()
            .filter(|no| gapless.get(no).is_none())
            .collect();
        let mut gaps: HashMap<EventNo, Vec<OwnedEventId>> = HashMap::new();
        if asked.is_empty() {
            return Ok(gaps);
        }
        let query = self
            .sql("SELECT event, missing FROM missing_prev WHERE room = $1 AND event IN NUMBERS($2)")
            .bind(room)
            .numbers(asked.iter().copied());
        for row in self.rows(query).await? {
            gaps.entry(row.get("event")?)
                .or_default()
                .push(row.get("missing")?);
        }
        for no in asked {
            if !gaps.contains_key(&no) {
                gapless.insert(no, ());
            }
        }
        Ok(gaps)
    }

    /// Notes of the events of some rooms' histories which of them have no gap before them, in one query: what
    /// [`Store::gaps_before`] then needn't ask.
    pub async fn note_gapless(&self, rooms: &[RoomNo], nos: &[EventNo]) -> Result<()> {
        let gapless = &self.core.caches.gapless;
        let asked = nos.iter().copied().filter(|no| gapless.get(no).is_none());
        let mut asked: HashSet<EventNo> = asked.collect();
        if asked.is_empty() {
            return Ok(());
        }
        let query = self
            .sql(
                "SELECT event FROM missing_prev WHERE room IN NUMBERS($1) AND event IN NUMBERS($2)",
            )
            .numbers(rooms.iter().copied())
            .numbers(asked.iter().copied());
        for row in self.rows(query).await? {
            asked.remove(&row.get("event")?);
        }
        for no in asked {
            gapless.insert(no, ());
        }
        Ok(())
    }

    /// The event, if the tail or a cache has it.
    pub(crate) fn remembered_event(&self, no: EventNo) -> Option<Arc<StoredEvent>> {
        let cached = self.core.caches.events.get(&no);
        cached.or_else(|| self.core.tail.event(no))
    }

    pub(crate) fn remember_event(&self, event: &Arc<StoredEvent>) {
        let caches = &self.core.caches;
        let weight = event.weight();
        caches
            .events
            .insert_weighing(event.no, event.clone(), weight);
        caches
            .event_ids
            .insert(event.pdu.event_id().to_owned(), event.no);
    }

    async fn load_events(&self, nos: &[EventNo]) -> Result<Vec<Arc<StoredEvent>>> {
        if nos.is_empty() {
            return Ok(Vec::new());
        }
        let moment = self.core.caches.events.moment();
        let rows = self.event_rows(nos).await?;
        let read = rows.iter().map(|row| self.read_event(moment, row));
        read.collect()
    }

    /// Reads events from the database past every cache, and puts what is there into them.
    pub(crate) async fn reload_events(&self, nos: &[EventNo]) -> Result<Vec<Arc<StoredEvent>>> {
        let mut events = Vec::with_capacity(nos.len());
        for row in self.event_rows(nos).await? {
            let event = Arc::new(event_of(&row)?);
            self.remember_event(&event);
            self.core.tail.replace_event(&event);
            events.push(event);
        }
        Ok(events)
    }

    async fn event_rows(&self, nos: &[EventNo]) -> Result<Vec<ReadRow>> {
        self.rows(self.event_query(nos)).await
    }

    fn event_query(&self, nos: &[EventNo]) -> Query {
        self.sql(concat_events!("WHERE e.no IN NUMBERS($1)"))
            .numbers(nos.iter().copied())
    }

    /// The event of a row of [`concat_events!`] that was read after `moment`; the one in the cache if there is one by now.
    fn read_event(&self, moment: u64, row: &ReadRow) -> Result<Arc<StoredEvent>> {
        self.core.counters.event_reads(1);
        let event = Arc::new(event_of(row)?);
        let caches = &self.core.caches;
        caches
            .event_ids
            .insert(event.pdu.event_id().to_owned(), event.no);
        let weight = event.weight();
        let cache = &caches.events;
        Ok(cache.get_or_insert_since(moment, event.no, event, weight))
    }
}

/// The numbers of events that rows list.
pub(super) fn numbers(rows: &[ReadRow]) -> Result<Vec<EventNo>> {
    rows.iter().map(|row| row.get("no")).collect()
}

/// As much of a stored event as tells a membership. A redaction leaves it.
#[derive(serde::Deserialize)]
struct MemberEvent {
    content: MemberContent,
}

#[derive(serde::Deserialize)]
struct MemberContent {
    #[serde(default)]
    membership: serde_json::Value,
}

/// Events by id, for [`event_of`].
pub(crate) const BY_IDS: &str = concat_events!("WHERE e.event_id IN TEXTS($1)");
