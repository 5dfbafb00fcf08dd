//! What becomes of events that were decided upon partial state, in the order in which they came: steps 6 and 7 of the checks
//! on receipt of an event, once more, and the room's ends and state after all.
//!
//! Those that have a place in the log came in that order. The others come last: what was refused before and is allowed now has
//! to be allowed by what the room is today.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use rhizome_protocol::{Pdu, auth};
use rhizome_storage::{EventNo, Placement, Redacts, RoomHead, SnapshotNo, Status};

use super::{Around, Replay, keep};
use crate::{
    Error,
    error::Result,
    policy_server::{self, Asked, Verdict},
    receive::{redacts_now, view_of},
    state::{self, Fork, Resolved},
};

/// More ends than this are not kept.
const MAX_ENDS: usize = 50;

/// What becomes of the room.
pub(super) struct Course {
    /// Of each event.
    pub(super) fates: Vec<Fate>,
    /// The ends, if they are others than the room has.
    pub(super) ends: Option<Vec<EventNo>>,
    /// The current state.
    pub(super) current: SnapshotNo,
}

/// What becomes of an event.
#[derive(Clone)]
pub(super) struct Fate {
    pub(super) status: Status,
    pub(super) reason: Option<String>,
    pub(super) redacts: Option<Redacts>,
}

impl Fate {
    fn refused(status: Status, reason: String) -> Self {
        Self {
            status,
            reason: Some(reason),
            redacts: None,
        }
    }
}

/// The room as it was when an event came.
struct Room {
    /// Ends, by index.
    ends: Vec<usize>,
    /// Events that others follow.
    followed: HashSet<usize>,
    /// The states after the ends, and what they make together.
    states: BTreeSet<SnapshotNo>,
    current: SnapshotNo,
}

impl Replay {
    /// From the join to what the room is now. All must be decided.
    pub(super) async fn course(&self, head: &RoomHead) -> Result<Course> {
        let mut room = Room {
            ends: Vec::new(),
            followed: HashSet::new(),
            states: BTreeSet::new(),
            current: self.full,
        };
        let mut fates: Vec<Option<Fate>> = vec![None; self.events.len()];
        for at in self.as_they_came() {
            let fate = self.fate(head, &room, at).await?;
            let joins =
                fate.status == Status::Accepted && self.events[at].placement == Placement::Live;
            fates[at] = Some(fate);
            if joins {
                self.join_room(&mut room, &fates, at);
                let states = room.ends.iter().filter_map(|end| self.events[*end].after());
                let states = states.collect();
                self.settle(&mut room, states).await?;
            }
        }
        let lost = || {
            Error::Store(rhizome_storage::Error::Failed(
                "an event has no fate".into(),
            ))
        };
        let fates: Vec<Fate> = fates.into_iter().collect::<Option<_>>().ok_or_else(lost)?;
        let mut statuses = fates.iter().zip(&self.events);
        let moved = statuses.any(|(fate, event)| fate.status != event.was);
        let ends = if moved {
            Some(room.ends.iter().map(|end| self.events[*end].no).collect())
        } else {
            let states = self.states_of_ends(head).await?;
            self.settle(&mut room, states).await?;
            None
        };
        Ok(Course {
            fates,
            ends,
            current: room.current,
        })
    }

    /// The indexes of all events in the order in which they came.
    fn as_they_came(&self) -> Vec<usize> {
        let place = |at: &usize| self.events[*at].order.filter(|order| *order > 0);
        let mut all = self.in_order();
        // It keeps the order of those without a place.
        all.sort_by_key(|at| place(at).unwrap_or(i64::MAX));
        all
    }

    async fn fate(&self, head: &RoomHead, room: &Room, at: usize) -> Result<Fate> {
        let event = &self.events[at];
        let Some(now) = &event.now else {
            return Ok(Fate::refused(
                Status::Rejected,
                "it isn't here any more".to_owned(),
            ));
        };
        if let Some(rejection) = &now.refused {
            return Ok(Fate::refused(Status::Rejected, rejection.to_string()));
        }
        let mut fate = Fate {
            status: Status::Accepted,
            reason: None,
            redacts: now.redacts.clone(),
        };
        let is_same = now.before == Some(room.current);
        let is_new = event.was != Status::Accepted;
        if is_same && !is_new {
            return Ok(fate);
        }
        let stored = self.rooms.store().event_by_no(event.no).await?;
        let Some(pdu) = stored.map(|stored| stored.pdu.clone()) else {
            return Ok(fate);
        };
        if !is_same && let Some(refused) = self.step_6(room, at, now, &pdu, &mut fate).await? {
            return Ok(refused);
        }
        // 7. Is validated by the policy server, if the room is using one, otherwise it is "soft failed".
        if is_new && event.placement == Placement::Live {
            match policy_server::verdict(&self.rooms, head, &pdu, &Asked::NotYet).await? {
                Verdict::Passes => {}
                Verdict::Refused(_) | Verdict::Unsigned(_) => {
                    let reason = event.reason.clone();
                    let reason =
                        reason.unwrap_or_else(|| "the policy server's signature is missing".into());
                    return Ok(Fate::refused(Status::SoftFailed, reason));
                }
            }
        }
        Ok(fate)
    }

    /// 6. Passes authorisation rules based on the current state, otherwise it is "soft failed".
    async fn step_6(
        &self,
        room: &Room,
        at: usize,
        now: &Around,
        pdu: &Arc<Pdu>,
        fate: &mut Fate,
    ) -> Result<Option<Fate>> {
        let current = Resolved::stored_or_empty(Some(room.current));
        let mut view = view_of(&self.rooms, &current, pdu).await?;
        view.learn(&now.learnt);
        if let Err(rejection) = auth::authorize(pdu, &view)
            && self.events[at].placement == Placement::Live
        {
            return Ok(Some(Fate::refused(
                Status::SoftFailed,
                rejection.to_string(),
            )));
        }
        if let Some(redacts) = fate.redacts.take() {
            let then = RoomHead {
                snapshot: Some(room.current),
                ..RoomHead::clone(&self.head)
            };
            fate.redacts = Some(redacts_now(&self.rooms, &then, pdu, redacts).await?);
        }
        Ok(None)
    }

    /// An accepted event takes the place of what it follows, also through what was refused.
    fn join_room(&self, room: &mut Room, fates: &[Option<Fate>], at: usize) {
        let is_refused = |at: usize| {
            let fate = fates[at].as_ref();
            fate.is_some_and(|fate| fate.status != Status::Accepted)
        };
        let mut seen = HashSet::from([at]);
        let mut walk = vec![at];
        while let Some(next) = walk.pop() {
            for prev in &self.events[next].prevs {
                let Some(prev) = self.index.get(prev).copied() else {
                    continue;
                };
                room.followed.insert(prev);
                room.ends.retain(|end| *end != prev);
                if seen.insert(prev) && is_refused(prev) {
                    walk.push(prev);
                }
            }
        }
        // One that came late and has a child already is no end. But a room never has none.
        if !room.followed.contains(&at) || room.ends.is_empty() {
            room.ends.push(at);
        }
        if room.ends.len() > MAX_ENDS {
            room.ends.remove(0);
        }
    }

    /// The states after the room's ends as they are stored.
    async fn states_of_ends(&self, head: &RoomHead) -> Result<BTreeSet<SnapshotNo>> {
        let mut states = BTreeSet::new();
        for end in &head.extremities {
            if let Some(at) = self.index.get(&end.event_id) {
                states.extend(self.events[*at].after());
            } else {
                let event = self.rooms.store().event_by_no(end.no).await?;
                states.extend(event.and_then(|event| event.state_after));
            }
        }
        Ok(states)
    }

    /// What these states make together is the current one.
    async fn settle(&self, room: &mut Room, states: BTreeSet<SnapshotNo>) -> Result<()> {
        if states == room.states || states.is_empty() {
            return Ok(());
        }
        room.current = match states.first() {
            Some(only) if states.len() == 1 => *only,
            _ => {
                let forks = states.iter().copied().map(Fork::Snapshot).collect();
                let beside = (None, &self.allowed[..]);
                let now = state::resolve_with(&self.rooms, &self.head, forks, beside).await?;
                keep(&self.rooms, self.head.room, now.new).await?;
                now.snapshot.unwrap_or(room.current)
            }
        };
        room.states = states;
        Ok(())
    }
}
