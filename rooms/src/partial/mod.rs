//! Rooms that were joined before their members were known are completed
//! ([ADR 27](../../../docs/adr/0027-joining-before-the-members-are-known.md)).
//!
//! 1. What another server tells of the state before the join becomes the full state before it ([`full_state`]).
//! 2. All events that were decided upon the partial state are decided again in memory ([`Replay`]): first the states around
//!    each, in the order of the graph (`states`), then what becomes of each, in the order in which they came (`course`).
//! 3. What comes out is committed at once (`commit`), if there are no others by then; else those are decided again, too.
//!
//! What is decided meanwhile is for [`crate::receive`], as anything else.

mod commit;
mod course;
mod full;
mod states;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{Pdu, Rejection, topological::parents_first, visibility::HistoryVisibility};
use rhizome_storage::{
    EventNo, NewSnapshot, Placement, Redacts, RoomHead, RoomNo, RoomWrite, SnapshotNo, Status,
    StoredEvent, WriteSet,
};
use ruma::OwnedEventId;

use crate::{Error, Rooms, error::Result, send::commit_error, state::Learnt};

pub use full::{full_state, told_state};

/// How many events are read at once.
const TOGETHER: usize = 500;

/// The events of a partial room, decided again.
pub struct Replay {
    rooms: Rooms,
    head: Arc<RoomHead>,
    join: EventNo,
    /// The full state before the join.
    full: SnapshotNo,
    /// States after events that aren't here, as others told them.
    told: HashMap<OwnedEventId, SnapshotNo>,
    events: Vec<Again>,
    index: HashMap<OwnedEventId, usize>,
    /// Events that aren't here and that others name as prevs.
    lacking: HashSet<OwnedEventId>,
    /// Those that are allowed after all although they are stored as rejected.
    allowed: Vec<(EventNo, Arc<Pdu>)>,
}

/// An event that was decided upon partial state.
struct Again {
    no: EventNo,
    id: OwnedEventId,
    prevs: Vec<OwnedEventId>,
    auth: Vec<OwnedEventId>,
    was: Status,
    reason: Option<String>,
    order: Option<i64>,
    placement: Placement,
    depth: i64,
    /// What is so of it after all.
    now: Option<Around>,
}

/// The states around an event, and whether they and its auth events allow it.
struct Around {
    before: Option<SnapshotNo>,
    after: Option<SnapshotNo>,
    refused: Option<Rejection>,
    visibility: HistoryVisibility,
    redacts: Option<Redacts>,
    /// What the state before it has learnt from it, at a gap.
    learnt: Vec<Learnt>,
    /// Whom somebody of another server makes leave by it with all that they have sent.
    clears: Option<String>,
}

impl Again {
    fn of(event: &StoredEvent) -> Self {
        Self {
            no: event.no,
            id: event.pdu.event_id().to_owned(),
            prevs: event.pdu.prev_events().to_vec(),
            auth: event.pdu.auth_events().to_vec(),
            was: event.status,
            reason: event.reason.clone(),
            order: event.order,
            placement: event.placement,
            depth: event.depth,
            now: None,
        }
    }

    fn after(&self) -> Option<SnapshotNo> {
        self.now.as_ref().and_then(|now| now.after)
    }
}

impl Replay {
    /// Of a room that is partial, from the full state before its join on. Reads what there is.
    ///
    /// # Errors
    ///
    /// [`Error::BadState`] if the room isn't partial (any more).
    pub async fn new(rooms: &Rooms, room: RoomNo, full: SnapshotNo) -> Result<Self> {
        let (head, join) = partial_head(rooms, room).await?;
        let mut replay = Self {
            rooms: rooms.clone(),
            head,
            join,
            full,
            told: HashMap::new(),
            events: Vec::new(),
            index: HashMap::new(),
            lacking: HashSet::new(),
            allowed: Vec::new(),
        };
        replay.read().await?;
        Ok(replay)
    }

    /// The events with prevs that aren't here, and those: by the states after them, if somebody tells them
    /// ([`Replay::tell`]), the events are decided better than by the state before the join.
    pub fn gaps(&self) -> Vec<(EventNo, Vec<OwnedEventId>)> {
        let mut gaps = Vec::new();
        for event in self.events.iter().filter(|event| event.no != self.join) {
            let mut unknown = event.prevs.clone();
            unknown.retain(|prev| self.lacking.contains(prev));
            if !unknown.is_empty() {
                gaps.push((event.no, unknown));
            }
        }
        gaps
    }

    /// The state after an event that isn't here.
    pub fn tell(&mut self, event: OwnedEventId, after: SnapshotNo) {
        self.told.insert(event, after);
    }

    /// Reads what has come since it was last done.
    async fn read(&mut self) -> Result<()> {
        let store = self.rooms.store().clone();
        let known: HashSet<EventNo> = self.events.iter().map(|event| event.no).collect();
        let all = store.partial_events(self.join).await?;
        let new: Vec<EventNo> = all.into_iter().filter(|no| !known.contains(no)).collect();
        let mut late = false;
        for part in new.chunks(TOGETHER) {
            for event in store.events_by_no(part).await? {
                let again = Again::of(&event);
                late |= self.lacking.remove(&again.id);
                self.index.insert(again.id.clone(), self.events.len());
                self.events.push(again);
            }
        }
        let prevs = self.events[known.len()..].iter();
        let prevs: Vec<OwnedEventId> = prevs.flat_map(|event| event.prevs.clone()).collect();
        for part in prevs.chunks(TOGETHER) {
            let placed: HashSet<OwnedEventId> = (store.events(part).await?.into_iter())
                .filter(|event| event.state_after.is_some())
                .map(|event| event.pdu.event_id().to_owned())
                .collect();
            let lacking = part.iter().filter(|id| !placed.contains(*id));
            self.lacking.extend(lacking.cloned());
        }
        if late {
            // What was decided without it was decided upon less than there is.
            self.allowed.clear();
            for event in &mut self.events {
                event.now = None;
            }
        }
        Ok(())
    }

    /// The indexes of all events, each after what it follows and rests on. Those on a circle, which only chosen ids can make, are last.
    fn in_order(&self) -> Vec<usize> {
        let sorted = parents_first(
            0..self.events.len(),
            |at| at,
            |at| {
                let rests_on = self.events[at].prevs.iter().chain(&self.events[at].auth);
                rests_on.filter_map(|id| self.index.get(id).copied())
            },
            |at| at,
        );
        let among: HashSet<usize> = sorted.iter().copied().collect();
        let others = (0..self.events.len()).filter(|at| !among.contains(at));
        sorted.iter().copied().chain(others).collect()
    }
}

/// The room, and the join that it is partial by.
async fn partial_head(rooms: &Rooms, room: RoomNo) -> Result<(Arc<RoomHead>, EventNo)> {
    let head = rooms.store().room_by_no(room).await?;
    let found = head.and_then(|head| {
        let join = head.partial?;
        Some((head, join))
    });
    found.ok_or_else(|| Error::BadState("All members of this room are known".into()))
}

/// Stores snapshots to which nothing refers yet.
async fn keep(rooms: &Rooms, room: RoomNo, snapshots: Vec<NewSnapshot>) -> Result<()> {
    if snapshots.is_empty() {
        return Ok(());
    }
    let write = RoomWrite {
        room,
        snapshots,
        ..RoomWrite::default()
    };
    let stored = rooms.store().commit(WriteSet::from(write)).await;
    stored.map(drop).map_err(commit_error)
}
