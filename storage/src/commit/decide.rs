//! Which write sets of a group stand. In memory, under the rooms' locks, in the order of their coming:
//! a later one sees what an earlier one of the same group has changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName};

use super::Job;
use super::gather::{GatheredRoom, extremity};
use super::partial::PartialRooms;
use crate::facts::FactsBasis;
use crate::facts::decision::Decision;
use crate::{
    CommitError, Error, EventNo, Extremity, Fact, NewEvent, NewRoom, Pos, RoomHead, RoomNo,
    RoomWrite, SnapshotNo, TxnKey,
};

/// What the database says about everything that the group touches.
#[derive(Debug, Default)]
pub(super) struct GroupState {
    /// Rooms that exist for us, by number; `None` where only the name is interned.
    pub(super) rooms: BTreeMap<RoomNo, Option<RoomHead>>,
    /// Rooms whose row must be inserted or updated.
    pub(super) created: HashSet<RoomNo>,
    pub(super) changed: HashSet<RoomNo>,
    /// The group's events and their `prev_events`, as far as they are stored.
    pub(super) events: HashMap<OwnedEventId, KnownEvent>,
    pub(super) txns: HashMap<TxnKey, (EventNo, OwnedEventId)>,
    /// By target: redactions that came before it, or that have been applied to what is stored of it.
    pub(super) redactions: HashMap<OwnedEventId, Vec<PendingRedaction>>,
    /// Events that a stored one names as `prev_event`, and that weren't there.
    pub(super) wanted_prevs: HashSet<OwnedEventId>,
    /// Events that a stored one names as auth event, and that weren't there.
    pub(super) wanted_auth: HashSet<OwnedEventId>,
    /// Snapshots that are there: the rooms' current ones, those asked for, those of this group.
    pub(super) snapshots: HashSet<SnapshotNo>,
    /// Those of them that the collector has on its list.
    pub(super) candidates: HashSet<SnapshotNo>,
    /// Rooms in which something on that list is referred to again.
    pub(super) revived: BTreeSet<RoomNo>,
    /// The numbers that the ids of rooms to create have already.
    pub(super) room_ids: HashMap<OwnedRoomId, RoomNo>,
    pub(super) partial: PartialRooms,
    pub(super) facts: FactsBasis,
    /// (write set, fact) that say nothing new: they get no position and nobody is told.
    pub(super) silent: HashSet<(usize, usize)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct KnownEvent {
    pub(super) no: EventNo,
    /// Accepted and no outlier: nothing can be changed any more.
    pub(super) done: bool,
    /// Stored as more than an outlier, so that it closes a gap in the history.
    pub(super) placed: bool,
    pub(super) order: Option<i64>,
    /// Written by this very group.
    pub(super) in_group: bool,
}

#[derive(Debug, Clone)]
pub(super) struct PendingRedaction {
    pub(super) by: EventNo,
    pub(super) room: RoomNo,
    pub(super) only_from: Option<OwnedServerName>,
}

/// `index`: the write set's place in the group.
pub(super) fn decide(index: usize, job: &Job, known: &mut GroupState) -> Decision {
    if let Some(decision) = check(job, known) {
        return decision;
    }
    for (write, gathered) in job.set.rooms.iter().zip(&job.gathered.rooms) {
        apply(write, gathered, known);
    }
    for (place, fact) in job.set.facts.iter().enumerate() {
        if !known.facts.apply(fact) {
            known.silent.insert((index, place));
        }
        if let Some(room) = fact.room_row()
            && let Some(Some(head)) = known.rooms.get_mut(&room)
        {
            fact.change_room(head);
            known.changed.insert(room);
        }
    }
    Decision::Accept
}

/// `None` if it can be accepted.
fn check(job: &Job, known: &GroupState) -> Option<Decision> {
    for write in &job.set.rooms {
        for event in &write.events {
            if let Some(decision) = check_event(job, event, known) {
                return Some(decision);
            }
        }
    }
    let mut rooms = HashSet::new();
    for write in &job.set.rooms {
        if !rooms.insert(write.room) {
            return Some(broken("a write set names a room twice"));
        }
        if let Err(error) = check_room(write, known) {
            return Some(Decision::Refuse(error));
        }
    }
    let mut facts = job.set.facts.iter();
    facts.find_map(|fact| {
        let moved = check_decided_on(fact, known).map(Decision::Refuse);
        moved.or_else(|| known.facts.check(fact, job.maybe_done))
    })
}

/// Whether the room isn't what a fact was decided on.
fn check_decided_on(fact: &Fact, known: &GroupState) -> Option<CommitError> {
    let (room, expect) = fact.decided_on()?;
    let head = known.rooms.get(&room).and_then(Option::as_ref);
    let now = head.map(|head| head.state_version);
    (now != expect).then_some(CommitError::StateMoved {
        room,
        now: now.unwrap_or_default(),
    })
}

fn check_event(job: &Job, event: &NewEvent, known: &GroupState) -> Option<Decision> {
    if let Some(key) = &event.txn
        && let Some((no, event_id)) = known.txns.get(key)
        && *no != event.no
    {
        return Some(Decision::Refuse(CommitError::DuplicateTxn {
            key: key.clone(),
            event_id: event_id.clone(),
        }));
    }
    let stored = known.events.get(event.pdu.event_id())?;
    if job.maybe_done && stored.no == event.no && !stored.in_group {
        let is_ours = stored.done || !event.is_history();
        return is_ours.then_some(Decision::Done(stored.order));
    }
    if stored.in_group && stored.no == event.no {
        return Some(Decision::Defer);
    }
    if stored.no == event.no && !stored.done {
        return None;
    }
    Some(Decision::Refuse(CommitError::DuplicateEvent {
        event_id: event.pdu.event_id().to_owned(),
        no: stored.no,
        done: stored.done,
    }))
}

fn check_room(write: &RoomWrite, known: &GroupState) -> Result<(), CommitError> {
    if let Some(follows) = &write.follows
        && known.events.get(follows).is_none_or(|event| !event.done)
    {
        return Err(CommitError::Orphaned(write.room));
    }
    let head = known.rooms.get(&write.room).and_then(Option::as_ref);
    if let Some(new) = &write.create
        && let Some(other) = known.room_ids.get(&new.room_id)
        && *other != write.room
    {
        return Err(CommitError::RoomExists(*other));
    }
    let version = match (&write.create, head) {
        (None, Some(head)) => head.state_version,
        (Some(_), None) => 0,
        // A join that was begun and not finished may begin again.
        (Some(new), Some(head)) if head.snapshot.is_none() && head.rules == new.rules => {
            head.state_version
        }
        (None, None) | (Some(_), Some(_)) => return Err(CommitError::RoomExists(write.room)),
    };
    let is_heard = write.completes().is_some() || write.events.iter().any(NewEvent::is_live);
    if !write.given.is_empty() && (write.current.is_none() || !is_heard) {
        return Err(CommitError::Store(Error::broken(
            "given state must come with a live event and a current state",
        )));
    }
    known.partial.check(write, head, version)?;
    match write.expect {
        Some(expect) if expect != version => Err(CommitError::StateMoved {
            room: write.room,
            now: version,
        }),
        None if write.current.is_some() && write.create.is_none() => Err(CommitError::Store(
            Error::broken("a change of state must say which version it was decided on"),
        )),
        _ => check_snapshots(write, known),
    }
}

/// Nothing may refer to nodes that aren't there: such a state could not be read any more.
fn check_snapshots(write: &RoomWrite, known: &GroupState) -> Result<(), CommitError> {
    let mut outer = write.outer_snapshots();
    match outer.find(|no| !known.snapshots.contains(no)) {
        None => Ok(()),
        Some(snapshot) => Err(CommitError::SnapshotGone {
            room: write.room,
            snapshot,
        }),
    }
}

/// A room in which nothing has happened yet.
fn first_head(room: RoomNo, new: &NewRoom) -> RoomHead {
    RoomHead {
        room,
        room_id: new.room_id.clone(),
        rules: new.rules,
        state_version: 0,
        snapshot: None,
        extremities: Vec::new(),
        joined: 0,
        invited: 0,
        public: false,
        bump: Pos(0),
        partial: None,
    }
}

fn apply(write: &RoomWrite, gathered: &GatheredRoom, known: &mut GroupState) {
    if let Some(new) = &write.create
        && known.rooms.get(&write.room).is_none_or(Option::is_none)
    {
        known.created.insert(write.room);
        known.room_ids.insert(new.room_id.clone(), write.room);
        let head = first_head(write.room, new);
        known.rooms.insert(write.room, Some(head));
    }
    if write
        .outer_snapshots()
        .any(|no| known.candidates.contains(&no))
    {
        known.revived.insert(write.room);
    }
    known
        .snapshots
        .extend(write.snapshots.iter().map(|new| new.no));
    let Some(Some(head)) = known.rooms.get_mut(&write.room) else {
        return;
    };
    let changes_head = write.create.is_some()
        || write.current.is_some()
        || gathered.reset.is_some()
        || !gathered.added.is_empty()
        || !write.drop_extremities.is_empty()
        || write.events.iter().any(NewEvent::is_live);
    if changes_head {
        known.changed.insert(write.room);
    }
    if let Some(current) = &write.current {
        head.state_version += 1;
        head.snapshot = Some(current.snapshot);
    }
    known.partial.apply(write, head);
    for event in write.events.iter().filter(|event| event.is_live()) {
        let prevs = event.pdu.prev_events();
        head.extremities.retain(|known| {
            !prevs.contains(&known.event_id) || write.told.contains(&known.event_id)
        });
        // One that came late and has a child already is no extremity. But a room never has none.
        let wanted = known.wanted_prevs.contains(event.pdu.event_id());
        if !wanted || head.extremities.is_empty() {
            head.extremities.push(extremity(event));
        }
    }
    if let Some(reset) = &gathered.reset {
        head.extremities.clone_from(reset);
    }
    for added in &gathered.added {
        if head.extremities.iter().all(|known| known.no != added.no) {
            head.extremities.push(added.clone());
        }
    }
    let stays = |known: &Extremity| !write.drop_extremities.contains(&known.no);
    if head.extremities.iter().any(stays) {
        head.extremities.retain(stays);
    }
    for event in &write.events {
        let stored = KnownEvent {
            no: event.no,
            done: event.is_history(),
            placed: event.placement != crate::Placement::Outlier,
            order: None,
            in_group: true,
        };
        let id = event.pdu.event_id().to_owned();
        if let Some(key) = &event.txn {
            known.txns.insert(key.clone(), (event.no, id.clone()));
        }
        known.events.insert(id, stored);
    }
}

fn broken(what: &str) -> Decision {
    Decision::Refuse(CommitError::Store(Error::broken(what)))
}
