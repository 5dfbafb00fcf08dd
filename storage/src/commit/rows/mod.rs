//! Turns the accepted write sets of a group into rows, one statement per table.
//!
//! Positions aren't known yet: rows hold the offset from the group's base (1, 2, …), which the
//! statements add (`$2`), so that nothing is made while the counter is held. A backfilled event's offset
//! is negative, from the lowest order so far (`$3`).

mod activity;
mod edges;
pub(super) mod events;
mod members;
mod partial;
mod servers;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use rhizome_protocol::{Membership, RoomRules};
use ruma::{OwnedEventId, OwnedRoomId};

use super::Job;
use super::decide::GroupState;
use crate::engine::db::hex;
use crate::engine::sql::rows;
use crate::engine::sql::statement::Statements;
use crate::facts::FactsBasis;
use crate::rooms::heads::extremities_text;
use crate::{
    Dialect, EventNo, NewEvent, Redacts, Result, RoomNo, RoomWrite, SnapshotNo, StoredEvent, UserNo,
};

/// What was read for the rows.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) members: HashMap<(UserNo, RoomNo), OldMember>,
    /// Targets of redactions that are stored already.
    pub(super) targets: HashMap<OwnedEventId, StoredEvent>,
    pub(super) auth: HashMap<OwnedEventId, EventNo>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct OldMember {
    pub(super) membership: Membership,
    /// In a room of ours, and so part of its counts.
    pub(super) counted: bool,
    pub(super) since: i64,
    pub(super) forgotten: bool,
}

/// What gets a position: (job, …) by index.
#[derive(Debug, Clone, Copy)]
pub(super) enum Planned {
    Event {
        job: usize,
        room: usize,
        event: usize,
    },
    State {
        job: usize,
        room: usize,
        change: usize,
    },
    Restored {
        job: usize,
        room: usize,
        restored: usize,
    },
    Fact {
        job: usize,
        fact: usize,
    },
}

/// Everything to write, in order.
#[derive(Debug)]
pub(super) struct Plan {
    /// What position base + 1, base + 2, … is.
    pub(super) log: Vec<Planned>,
    /// Per accepted write set: its part of `log`.
    pub(super) spans: Vec<Range<i64>>,
    pub(super) backfilled: i64,
    /// Of backfilled events: their offset.
    pub(super) offsets: HashMap<EventNo, i64>,
    /// Events of this group, or stored before, that a redaction applies to: target → redaction.
    pub(super) redacted: HashMap<EventNo, EventNo>,
    /// Events with `prev_events` that we lack.
    pub(super) gapped: HashSet<EventNo>,
    /// Rooms whose summaries are made anew.
    pub(super) summarised: BTreeSet<RoomNo>,
    /// Where the last activity of each room is in which there is any.
    pub(super) bumps: HashMap<RoomNo, i64>,
    pub(super) statements: Statements,
}

pub(super) fn plan(
    dialect: Dialect,
    accepted: &[(usize, &Job)],
    known: &mut GroupState,
    found: &Found,
    now: i64,
) -> Result<Plan> {
    let mut plan = Plan::new(dialect);
    assign(accepted, known, &mut plan);
    plan.redacted = events::redacted(accepted, known, found);
    plan.summarised = activity::summarised(accepted, &plan.redacted, found);
    let mut maker = Maker {
        accepted,
        found,
        plan,
    };
    maker.rooms_created(known)?;
    maker.snapshots(known)?;
    maker.events()?;
    maker.restored()?;
    maker.transactions(now)?;
    maker.redactions(known)?;
    maker.relations()?;
    maker.auth_edges(known)?;
    maker.prev_edges(known)?;
    maker.state(known)?;
    maker.partial(known, now)?;
    maker.facts(&known.facts)?;
    maker.outbound()?;
    maker.plan.bumps = maker.bumps(known);
    maker.rooms(known)?;
    Ok(maker.plan)
}

/// Gives out offsets, in the order of the write sets: each event, its own change of state right after
/// it, then the room's other changes and what is restored in it; the facts last.
fn assign(accepted: &[(usize, &Job)], known: &GroupState, plan: &mut Plan) {
    let mut backfilled = Vec::new();
    for (job, held) in accepted {
        let (job, start) = (*job, plan.log.len());
        for (room, write) in held.set.rooms.iter().enumerate() {
            let changes = write
                .current
                .as_ref()
                .map_or(&[][..], |current| &current.changes);
            let mut left: Vec<_> = (0..changes.len()).collect();
            for (event, new) in write.events.iter().enumerate() {
                if new.is_live() {
                    plan.log.push(Planned::Event { job, room, event });
                } else if new.is_history() {
                    backfilled.push(new.no);
                }
                left.retain(|change| {
                    let is_own = changes[*change].new == Some(new.no);
                    if is_own {
                        plan.log.push(Planned::State {
                            job,
                            room,
                            change: *change,
                        });
                    }
                    !is_own
                });
            }
            let others = left.into_iter();
            plan.log
                .extend(others.map(|change| Planned::State { job, room, change }));
            let restored = 0..write.restored.len();
            plan.log.extend(restored.map(|restored| Planned::Restored {
                job,
                room,
                restored,
            }));
        }
        for (fact, what) in held.set.facts.iter().enumerate() {
            if what.has_position() && !known.silent.contains(&(job, fact)) {
                plan.log.push(Planned::Fact { job, fact });
            }
        }
        plan.spans.push(count(start)..count(plan.log.len()));
    }
    plan.backfilled = count(backfilled.len());
    let lowest = -plan.backfilled;
    plan.offsets = backfilled.into_iter().zip(lowest..).collect();
}

pub(super) fn events_of<'a>(
    accepted: &'a [(usize, &'a Job)],
) -> impl Iterator<Item = (RoomNo, &'a NewEvent)> {
    accepted
        .iter()
        .flat_map(|(_, job)| &job.set.rooms)
        .flat_map(|write| write.events.iter().map(|event| (write.room, event)))
}

/// The group's redactions that may be applied, with their rooms: new ones, those that tell only now what they
/// redact, and those of which it is known only now.
pub(super) fn redactions_of<'a>(
    accepted: &'a [(usize, &'a Job)],
) -> impl Iterator<Item = (RoomNo, EventNo, &'a Redacts)> {
    let new = events_of(accepted)
        .filter_map(|(room, event)| Some((room, event.no, event.redacts.as_ref()?)));
    let writes = accepted.iter().flat_map(|(_, job)| &job.set.rooms);
    let restored = writes.flat_map(|write| {
        let restored = write.restored.iter();
        restored.flat_map(|event| {
            let redacts = event.redacts.iter();
            redacts.map(|redacts| (write.room, event.no, redacts))
        })
    });
    let writes = accepted.iter().flat_map(|(_, job)| &job.set.rooms);
    let again = writes.flat_map(|write| {
        let again = write.completes().map(|completing| &completing.again);
        let again = again.into_iter().flatten();
        again.filter_map(|again| Some((write.room, again.no, again.redacts.as_ref()?)))
    });
    new.chain(restored).chain(again)
}

/// Makes the rows, kind by kind.
pub(super) struct Maker<'a> {
    pub(super) accepted: &'a [(usize, &'a Job)],
    pub(super) found: &'a Found,
    pub(super) plan: Plan,
}

impl Plan {
    /// Of nothing so far.
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            log: Vec::new(),
            spans: Vec::new(),
            backfilled: 0,
            offsets: HashMap::new(),
            redacted: HashMap::new(),
            gapped: HashSet::new(),
            summarised: BTreeSet::new(),
            bumps: HashMap::new(),
            statements: Statements::new(dialect),
        }
    }

    /// How many positions the group takes.
    pub(super) fn positions(&self) -> i64 {
        count(self.log.len())
    }
}

fn count(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

impl<'a> Maker<'a> {
    pub(super) fn writes(&self) -> impl Iterator<Item = &'a RoomWrite> + use<'a> {
        self.accepted.iter().flat_map(|(_, job)| &job.set.rooms)
    }

    /// The write and its offset for everything in the log that `pick` picks.
    pub(super) fn planned<T>(&self, pick: impl Fn(&Planned) -> Option<T>) -> Vec<(i64, T)> {
        let log = self.plan.log.iter().zip(1_i64..);
        log.filter_map(|(planned, offset)| Some((offset, pick(planned)?)))
            .collect()
    }

    pub(super) fn job(&self, index: usize) -> Option<&'a Job> {
        let found = self
            .accepted
            .binary_search_by_key(&index, |(index, _)| *index);
        Some(self.accepted[found.ok()?].1)
    }

    /// Facts at their offsets, and those without positions.
    fn facts(&mut self, held: &FactsBasis) -> Result<()> {
        let logged = self.planned(|planned| match planned {
            Planned::Fact { job, fact } => self.job(*job)?.set.facts.get(*fact),
            _ => None,
        });
        let all = self.accepted.iter().flat_map(|(_, job)| &job.set.facts);
        let plain = all
            .filter(|fact| !fact.has_position())
            .map(|fact| (0, fact));
        held.write(logged.into_iter().chain(plain), &mut self.plan.statements)
    }

    fn rooms_created(&mut self, known: &GroupState) -> Result<()> {
        let heads = known.rooms.values().flatten();
        let created = heads.filter(|head| known.created.contains(&head.room));
        let rows: Vec<_> = created
            .map(|head| CreatedRow {
                no: head.room,
                room_id: &head.room_id,
                version: head.rules,
            })
            .collect();
        self.plan.statements.before(
            "INSERT INTO room (no, room_id, version, state_version, extremities, joined, invited, \
             public, last_pos) \
             SELECT no, room_id, version, 0, '[]', 0, 0, 0, 0 FROM ROWS($1) AS x \
             WHERE true ON CONFLICT (no) DO UPDATE SET version = excluded.version",
            &rows,
        )
    }

    fn snapshots(&mut self, known: &GroupState) -> Result<()> {
        let mut rows = Vec::new();
        for new in self.writes().flat_map(|write| &write.snapshots) {
            rows.push(SnapshotRow {
                no: new.no,
                room: new.room,
                parent: new.parent,
                body: hex(&new.nodes.encode(new.no)),
            });
        }
        let inserted = self.plan.statements.before_in(
            "state_snapshot",
            "INSERT INTO state_snapshot (no, room, parent, body) \
             SELECT no, room, parent, UNHEX(body) FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (no) DO NOTHING",
            &rows,
        )?;
        if let Some(statement) = inserted {
            // One that was stored before may be on the collector's list by now.
            statement.expect = Some(rows.len());
            statement.otherwise = Some(
                "DELETE FROM snapshot_candidate WHERE room IN (SELECT room FROM ROWS($1) AS x)",
            );
        }
        // All of the room's: whatever a revived one shares nodes with is needed again, too.
        let revived: Vec<_> = (known.revived.iter())
            .map(|room| RoomRow { room: *room })
            .collect();
        self.plan.statements.before(
            "DELETE FROM snapshot_candidate WHERE room IN (SELECT room FROM ROWS($1) AS x)",
            &revived,
        )
    }

    fn rooms(&mut self, known: &GroupState) -> Result<()> {
        let mut rows = Vec::new();
        for head in known.rooms.values().flatten() {
            if known.changed.contains(&head.room) {
                rows.push(HeadRow {
                    no: head.room,
                    state_version: head.state_version,
                    snapshot: head.snapshot,
                    extremities: extremities_text(&head.extremities)?,
                    joined: head.joined,
                    invited: head.invited,
                    public: head.public,
                    bump: self.plan.bumps.get(&head.room).copied(),
                    last_pos: self.plan.positions(),
                });
            }
        }
        self.plan.statements.after_in(
            "room",
            "UPDATE room SET state_version = x.state_version, snapshot = x.snapshot, \
             extremities = x.extremities, joined = x.joined, invited = x.invited, \
             public = x.public, bump = COALESCE(x.bump + $2, room.bump), last_pos = x.last_pos + $2 FROM ROWS($1) AS x WHERE room.no = x.no",
            &rows,
        )?;
        Ok(())
    }
}

rows! {
    struct CreatedRow<'a> {
        no: RoomNo,
        room_id: &'a OwnedRoomId,
        version: &'a RoomRules,
    }
}

rows! {
    struct SnapshotRow {
        no: SnapshotNo,
        room: RoomNo,
        parent: Option<SnapshotNo>,
        body: String,
    }
}

rows! {
    struct RoomRow {
        room: RoomNo,
    }
}

rows! {
    struct HeadRow {
        no: RoomNo,
        state_version: i64,
        snapshot: Option<SnapshotNo>,
        extremities: String,
        joined: i64,
        invited: i64,
        public: bool,
        bump: Option<i64>,
        last_pos: i64,
    }
}
