//! Whether the stored states are what the stored events make.
//!
//! 1. Every event that has a state is looked at, oldest first. The state before it must be what resolution
//!    from scratch, over whole states, makes of the states after its prevs; the state after it must be that
//!    with the event's own entry, if it is an accepted or soft-failed state event, and the same otherwise.
//! 2. The current state must be the resolution of the states after the forward extremities, and the rows
//!    that mirror it for questions about sets must say the same.
//!
//! Each event is checked upon what is stored of those before it. That is as good as carrying a recomputed
//! state along: where the first disagreement is found, everything before it agrees. And it needs no more
//! memory than the states of one event's prevs.
//!
//! An event with a prev whose state isn't known (where a remote join began, or where history is missing)
//! keeps the state that it was given. So does one whose prev came later: the state before it was told by
//! another server, and may be another one than what comes out now.

use std::sync::Arc;

use rhizome_protocol::{
    StateKey,
    resolve::{StateMap, resolve},
};
use rhizome_rooms::Error;
use rhizome_storage::{
    Direction, HistoryToken, KeyNo, OutsideToken, Pos, RoomHead, SnapshotNo, Status, Store,
    StoredEvent,
};
use ruma::OwnedEventId;
use serde::Serialize;

use crate::Result;
use crate::{
    event::prevs_of,
    loaded::{conflicted, difference, named, state_map, with_events},
};

/// How many events are held at a time.
const CHUNK: usize = 200;

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Recomputed {
    /// Events that were looked at.
    pub events: u64,
    /// Those of them that had different states to merge.
    pub merges: u64,
    /// Those whose state before was taken as it was given.
    pub given: u64,
    /// The first place where what is stored isn't what comes out; the rest was not looked at.
    pub disagreement: Option<Disagreement>,
}

/// Where the stored state is another than the recomputed one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disagreement {
    /// Which state.
    pub place: Place,
    /// The event whose state it is.
    pub event_id: Option<OwnedEventId>,
    /// The first entry that differs: its type. `None` if a state can't be read or computed.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its state key.
    pub state_key: Option<String>,
    /// What is stored.
    pub stored: Option<OwnedEventId>,
    /// What comes out.
    pub recomputed: Option<OwnedEventId>,
    /// A sentence for people.
    pub note: String,
}

/// Which state disagrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The state before an event.
    Before,
    /// The state after an event.
    After,
    /// The room's current state.
    Current,
    /// The rows that mirror the current state.
    Mirror,
}

/// Recomputes the room's states and compares them with the stored ones; changes nothing. `progress` is told
/// now and then how many events are done.
pub async fn recompute(
    store: &Store,
    head: &RoomHead,
    mut progress: impl FnMut(u64),
) -> Result<Recomputed> {
    let mut check = Check {
        store,
        head,
        done: Recomputed::default(),
    };
    let mut from = HistoryToken::START;
    loop {
        let upto = Pos(i64::MAX);
        let events = store
            .history(head.room, from, Direction::Forward, CHUNK, upto)
            .await?;
        let Some(last) = events.last().and_then(|event| HistoryToken::after(event)) else {
            break;
        };
        from = last;
        if !check.events(&events).await? {
            return Ok(check.done);
        }
        progress(check.done.events);
    }
    let mut from = OutsideToken::START;
    loop {
        let events = store.events_outside(head.room, from, CHUNK).await?;
        let Some(last) = events.last() else { break };
        from = OutsideToken::after(last);
        if !check.events(&events).await? {
            return Ok(check.done);
        }
        progress(check.done.events);
    }
    check.current().await?;
    Ok(check.done)
}

struct Check<'a> {
    store: &'a Store,
    head: &'a RoomHead,
    done: Recomputed,
}

/// What a state should be.
enum Expected {
    /// What this snapshot holds; `None` is the empty state.
    Stored(Option<SnapshotNo>),
    /// This.
    Map(StateMap),
}

impl Check<'_> {
    /// Looks at some events; `false` when one disagrees.
    async fn events(&mut self, events: &[Arc<StoredEvent>]) -> Result<bool> {
        for event in events {
            if event.state_before.is_none() && event.state_after.is_none() {
                continue;
            }
            self.done.events += 1;
            for place in [Place::Before, Place::After] {
                let found = match place {
                    Place::Before => self.before(event).await,
                    _ => self.after(event).await,
                };
                let id = Some(event.pdu.event_id().to_owned());
                match found {
                    Ok(None) => continue,
                    Ok(Some(difference)) => self.differ(place, id, difference),
                    Err(Error::Store(rhizome_storage::Error::Failed(why))) => {
                        self.unreadable(place, id, why);
                    }
                    Err(error) => return Err(error),
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The state before `event` against the states after its prevs.
    async fn before(&mut self, event: &StoredEvent) -> Result<Option<Difference>> {
        // What was decided before the room's members were known has learnt some of them from events.
        let is_partial = self.store.is_partial_event(event.no).await?;
        let prevs = prevs_of(self.store, event).await?;
        let Some(prevs) = prevs.filter(|_| !is_partial) else {
            self.done.given += 1;
            return Ok(None);
        };
        let expected = self.merged(&prevs).await?;
        let difference = self.compare(event.state_before, expected).await?;
        if difference.is_some() && prevs.iter().any(|prev| may_be_later(prev, event)) {
            self.done.given += 1;
            return Ok(None);
        }
        Ok(difference)
    }

    /// What the states after these events make together.
    async fn merged(&mut self, ends: &[Arc<StoredEvent>]) -> Result<Expected> {
        let mut snapshots: Vec<SnapshotNo> =
            ends.iter().filter_map(|end| end.state_after).collect();
        snapshots.sort_unstable();
        snapshots.dedup();
        if let [] | [_] = snapshots.as_slice() {
            return Ok(Expected::Stored(snapshots.first().copied()));
        }
        self.done.merges += 1;
        let mut forks = Vec::with_capacity(snapshots.len());
        for snapshot in snapshots {
            forks.push(state_map(self.store, Some(snapshot)).await?);
        }
        let run = |events: &_| resolve(self.head.rules, &forks, events);
        let state = with_events(self.store, conflicted(&forks), run).await?;
        let state = state.ok_or_else(|| {
            rhizome_storage::Error::broken("resolution needs events that aren't stored")
        })?;
        Ok(Expected::Map(state))
    }

    async fn compare(
        &self,
        stored: Option<SnapshotNo>,
        expected: Expected,
    ) -> Result<Option<Difference>> {
        let expected = match expected {
            Expected::Stored(snapshot) if snapshot == stored => return Ok(None),
            Expected::Stored(snapshot) => state_map(self.store, snapshot).await?,
            Expected::Map(map) => map,
        };
        Ok(difference(&state_map(self.store, stored).await?, &expected))
    }

    /// The state after `event` against the one before it.
    async fn after(&self, event: &StoredEvent) -> Result<Option<Difference>> {
        let changes = event.status != Status::Rejected && event.pdu.state_key().is_some();
        if !changes {
            let before = Expected::Stored(event.state_before);
            return self.compare(event.state_after, before).await;
        }
        let key = event.pdu.state_key().unwrap_or_default();
        let key = StateKey::new(event.pdu.kind(), key);
        // Only what differs from the state before is read, and it must be the event's own entry.
        let changed = match (event.state_before, event.state_after) {
            (Some(before), Some(after)) => {
                let diff = self.store.state_diff(before, after).await?;
                let keys: Vec<KeyNo> = diff.iter().map(|(key, ..)| *key).collect();
                let names = self.store.keys(&keys).await?;
                let strange = names.iter().any(|name| **name != key);
                let to = diff.first().and_then(|(_, _, new)| *new);
                !strange && to == Some(event.no)
            }
            (None, Some(after)) => {
                let all = state_map(self.store, Some(after)).await?;
                all.len() == 1 && all.get(&key).is_some_and(|id| id == event.pdu.event_id())
            }
            (_, None) => false,
        };
        if changed {
            return Ok(None);
        }
        let mut expected = state_map(self.store, event.state_before).await?;
        expected.insert(key, event.pdu.event_id().to_owned());
        self.compare(event.state_after, Expected::Map(expected))
            .await
    }

    /// The current state, and the rows that mirror it.
    async fn current(&mut self) -> Result<()> {
        let Some((head, mirror)) = self.store.mirrored_state(self.head.room).await? else {
            return Err(Error::Contended);
        };
        let nos: Vec<_> = head.extremities.iter().map(|end| end.no).collect();
        let ends = self.store.events_by_no(&nos).await?;
        let found = async {
            let expected = self.merged(&ends).await?;
            let current = self.compare(head.snapshot, expected).await?;
            let mirror = named(self.store, mirror).await?;
            let stored = state_map(self.store, head.snapshot).await?;
            Ok((current, difference(&mirror, &stored)))
        };
        match found.await {
            Ok((Some(current), _)) => self.differ(Place::Current, None, current),
            Ok((None, Some(mirror))) => self.differ(Place::Mirror, None, mirror),
            Ok((None, None)) => {}
            Err(Error::Store(rhizome_storage::Error::Failed(why))) => {
                self.unreadable(Place::Current, None, why);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn differ(&mut self, place: Place, event_id: Option<OwnedEventId>, found: Difference) {
        let (key, stored, recomputed) = found;
        self.done.disagreement = Some(Disagreement {
            place,
            event_id,
            kind: Some(key.kind),
            state_key: Some(key.key),
            stored,
            recomputed,
            note: "the stored state is not what the events make".to_owned(),
        });
    }

    fn unreadable(&mut self, place: Place, event_id: Option<OwnedEventId>, why: String) {
        self.done.disagreement = Some(Disagreement {
            place,
            event_id,
            kind: None,
            state_key: None,
            stored: None,
            recomputed: None,
            note: why,
        });
    }
}

/// Whether an event may have come after one that follows it. Orders of live events rise, those of history
/// fall; history may have come before a live event or after it. Refused events have none, nothing is known of
/// when they came.
fn may_be_later(prev: &StoredEvent, event: &StoredEvent) -> bool {
    match (prev.order, event.order) {
        (Some(prev), Some(event)) if prev > 0 => event > 0 && prev > event,
        (Some(prev), Some(event)) => event > 0 || prev < event,
        _ => true,
    }
}

/// Key, stored, recomputed.
type Difference = (StateKey, Option<OwnedEventId>, Option<OwnedEventId>);
