//! Turns the accepted write sets of a group into rows, one statement per table.
//!
//! Positions aren't known yet: rows hold the offset from the group's base (1, 2, …), which the
//! statements add (`$2`), so that nothing is made while the counter is held. A backfilled event's offset
//! is negative, from the lowest order so far (`$3`).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use rhizome_protocol::Membership;
use ruma::OwnedEventId;
use serde::Serialize;

use super::Job;
use super::decide::Known;
use super::gather::MemberChange;
use super::group::{Statement, Uses};
use crate::account_data::GLOBAL;
use crate::dialect::escaped;
use crate::events::visibility_code;
use crate::members::code;
use crate::rooms::extremities_text;
use crate::{
    Error, EventNo, Fact, KeyNo, NewEvent, Placement, Result, RoomNo, RoomWrite, ServerNo, SetNo,
    SnapshotNo, StoredEvent, TxnOwner, UserNo,
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
    pub(super) forgotten: i64,
}

/// What gets a position: (job, …) by index.
#[derive(Debug, Clone, Copy)]
pub(super) enum Planned {
    Event { job: usize, room: usize, event: usize },
    State { job: usize, room: usize, change: usize },
    Fact { job: usize, fact: usize },
}

/// Everything to write, in order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What position base + 1, base + 2, … is.
    pub(super) log: Vec<Planned>,
    /// Per accepted write set: its part of `log`.
    pub(super) spans: Vec<Range<usize>>,
    pub(super) backfilled: i64,
    /// Of backfilled events: their offset.
    pub(super) offsets: HashMap<EventNo, i64>,
    /// Events of this group, or stored before, that a redaction applies to: target → redaction.
    pub(super) redacted: HashMap<EventNo, EventNo>,
    pub(super) before: Vec<Statement>,
    pub(super) after: Vec<Statement>,
}

pub(super) fn plan(
    accepted: &[(usize, &Job)],
    known: &mut Known,
    found: &Found,
    now: i64,
) -> Result<Plan> {
    let mut plan = Plan::default();
    assign(accepted, &mut plan);
    plan.redacted = redactions(accepted, known, found);
    let mut maker = Maker {
        accepted,
        found,
        plan,
    };
    maker.rooms_created(known)?;
    maker.snapshots()?;
    maker.events()?;
    maker.transactions(now)?;
    maker.redactions(known)?;
    maker.edges(known)?;
    maker.state(known)?;
    maker.facts()?;
    maker.outbound()?;
    maker.rooms(known)?;
    Ok(maker.plan)
}

/// Gives out offsets, in the order of the write sets: each event, its own change of state right after
/// it, then the room's other changes; the facts last.
fn assign(accepted: &[(usize, &Job)], plan: &mut Plan) {
    let mut backfilled = Vec::new();
    for (job, held) in accepted {
        let (job, start) = (*job, plan.log.len());
        for (room, write) in held.set.rooms.iter().enumerate() {
            let changes = write.current.as_ref().map_or(&[][..], |current| &current.changes);
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
                        plan.log.push(Planned::State { job, room, change: *change });
                    }
                    !is_own
                });
            }
            let others = left.into_iter();
            plan.log.extend(others.map(|change| Planned::State { job, room, change }));
        }
        for (fact, what) in held.set.facts.iter().enumerate() {
            if !matches!(what, Fact::Forget { .. } | Fact::Alias { .. } | Fact::Directory { .. }) {
                plan.log.push(Planned::Fact { job, fact });
            }
        }
        plan.spans.push(start..plan.log.len());
    }
    plan.backfilled = backfilled.len() as i64;
    let lowest = -plan.backfilled;
    plan.offsets = backfilled.into_iter().zip(lowest..).collect();
}

/// Which events are redacted now: by redactions of this group, or by some that came before them.
fn redactions(
    accepted: &[(usize, &Job)],
    known: &Known,
    found: &Found,
) -> HashMap<EventNo, EventNo> {
    let mut redacted = HashMap::new();
    let new: HashMap<_, _> = events_of(accepted)
        .map(|(room, event)| (event.pdu.event_id(), (room, event)))
        .collect();
    for (target, (room, event)) in &new {
        let pending = known.redactions.get(*target).into_iter().flatten();
        let sender = event.pdu.sender();
        let mut fitting = pending.filter(|redaction| {
            let from = redaction.only_from.as_ref();
            redaction.room == *room && from.is_none_or(|server| server == sender.server_name())
        });
        if let Some(redaction) = fitting.next() {
            redacted.insert(event.no, redaction.by);
        }
    }
    for (room, redaction) in events_of(accepted) {
        let Some(redacts) = &redaction.redacts else { continue };
        let from = redacts.only_from.as_ref();
        let target = match (new.get(&*redacts.target), found.targets.get(&redacts.target)) {
            (Some((of, event)), _) => (*of, event.no, event.pdu.sender(), None),
            (None, Some(event)) => (event.room, event.no, event.pdu.sender(), event.redacted_by),
            (None, None) => continue,
        };
        let (of, no, sender, before) = target;
        let allowed = from.is_none_or(|server| server == sender.server_name());
        if of == room && allowed && before.is_none() {
            redacted.entry(no).or_insert(redaction.no);
        }
    }
    redacted
}

fn events_of<'a>(
    accepted: &'a [(usize, &'a Job)],
) -> impl Iterator<Item = (RoomNo, &'a NewEvent)> {
    accepted
        .iter()
        .flat_map(|(_, job)| &job.set.rooms)
        .flat_map(|write| write.events.iter().map(|event| (write.room, event)))
}

/// What a stored event remembers of its transaction.
pub(super) fn txn_owner(event: &NewEvent) -> Option<TxnOwner> {
    event.txn.as_ref().map(|key| TxnOwner {
        device: key.device.clone(),
        txn_id: key.txn_id.clone(),
    })
}

struct Maker<'a> {
    accepted: &'a [(usize, &'a Job)],
    found: &'a Found,
    plan: Plan,
}

/// A row of `event`.
#[derive(Serialize)]
struct EventRow<'a>(
    EventNo,
    Cow<'a, str>,
    RoomNo,
    Option<i64>,
    i64,
    i64,
    i64,
    Option<SnapshotNo>,
    Option<SnapshotNo>,
    Option<i64>,
    Option<EventNo>,
    Option<Cow<'a, str>>,
    Option<String>,
    &'a str,
);

const INSERT_EVENT: &str = "\
    INSERT INTO event (no, event_id, room, ord, depth, status, placement, state_before, \
    state_after, visibility, redacted_by, reason, txn, json) \
    SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, CAST(value ->> 2 AS BIGINT), \
    CASE WHEN CAST(value ->> 3 AS BIGINT) > 0 THEN CAST(value ->> 3 AS BIGINT) + $2 \
    ELSE CAST(value ->> 3 AS BIGINT) + $3 END, \
    CAST(value ->> 4 AS BIGINT), CAST(value ->> 5 AS BIGINT), CAST(value ->> 6 AS BIGINT), \
    CAST(value ->> 7 AS BIGINT), CAST(value ->> 8 AS BIGINT), CAST(value ->> 9 AS BIGINT), \
    CAST(value ->> 10 AS BIGINT), value ->> 11, value ->> 12, value ->> 13 \
    FROM EACH($1) WHERE true ON CONFLICT (no) DO UPDATE SET ord = excluded.ord, \
    depth = excluded.depth, status = excluded.status, placement = excluded.placement, \
    state_before = excluded.state_before, state_after = excluded.state_after, \
    visibility = excluded.visibility, reason = excluded.reason, txn = excluded.txn, \
    redacted_by = COALESCE(event.redacted_by, excluded.redacted_by)";

impl<'a> Maker<'a> {
    fn before<T: Serialize>(&mut self, sql: &'static str, rows: &[T], uses: Uses) -> Result<()> {
        if !rows.is_empty() {
            self.plan.before.push(Statement::new(sql, rows, uses)?);
        }
        Ok(())
    }

    fn after<T: Serialize>(&mut self, sql: &'static str, rows: &[T], uses: Uses) -> Result<()> {
        if !rows.is_empty() {
            self.plan.after.push(Statement::new(sql, rows, uses)?);
        }
        Ok(())
    }

    fn writes(&self) -> impl Iterator<Item = &'a RoomWrite> + use<'a> {
        self.accepted.iter().flat_map(|(_, job)| &job.set.rooms)
    }

    /// The write and its offset for everything in the log that `pick` picks.
    fn planned<T>(&self, pick: impl Fn(&Planned) -> Option<T>) -> Vec<(i64, T)> {
        let log = self.plan.log.iter().zip(1_i64..);
        log.filter_map(|(planned, offset)| Some((offset, pick(planned)?))).collect()
    }

    fn job(&self, index: usize) -> Option<&'a Job> {
        let found = self.accepted.binary_search_by_key(&index, |(index, _)| *index);
        Some(self.accepted[found.ok()?].1)
    }

    fn rooms_created(&mut self, known: &Known) -> Result<()> {
        let rows: Vec<_> = known
            .rooms
            .values()
            .flatten()
            .filter(|head| known.created.contains(&head.room))
            .map(|head| (head.room, escaped(head.room_id.as_str()), head.rules.id()))
            .collect();
        self.before(
            "INSERT INTO room (no, room_id, version, state_version, extremities, joined, invited, \
             public, last_pos) \
             SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, value ->> 2, 0, '[]', 0, 0, 0, 0 \
             FROM EACH($1) WHERE true ON CONFLICT (no) DO UPDATE SET version = excluded.version",
            &rows,
            Uses::Rows,
        )
    }

    fn snapshots(&mut self) -> Result<()> {
        let mut rows = Vec::new();
        for new in self.writes().flat_map(|write| &write.snapshots) {
            let body = new.nodes.encode(new.no);
            rows.push((new.no, new.room, new.parent, hex(&body)));
        }
        self.before(
            "INSERT INTO state_snapshot (no, room, parent, body) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), \
             CAST(value ->> 2 AS BIGINT), UNHEX(value ->> 3) FROM EACH($1) WHERE true \
             ON CONFLICT (no) DO NOTHING",
            &rows,
            Uses::Rows,
        )
    }

    fn events(&mut self) -> Result<()> {
        let positions: HashMap<EventNo, i64> = self
            .planned(|planned| match planned {
                Planned::Event { job, room, event } => {
                    let write = self.job(*job)?.set.rooms.get(*room)?;
                    Some(write.events.get(*event)?.no)
                }
                _ => None,
            })
            .into_iter()
            .map(|(offset, no)| (no, offset))
            .collect();
        let (mut placed, mut others) = (Vec::new(), Vec::new());
        for (room, event) in events_of(self.accepted) {
            let offset = positions.get(&event.no).or_else(|| self.plan.offsets.get(&event.no));
            let row = self.event_row(room, event, offset.copied())?;
            if offset.is_some() { &mut placed } else { &mut others }.push(row);
        }
        self.before(INSERT_EVENT, &others, Uses::BaseAndBack)?;
        self.after(INSERT_EVENT, &placed, Uses::BaseAndBack)
    }

    fn event_row(
        &self,
        room: RoomNo,
        event: &'a NewEvent,
        offset: Option<i64>,
    ) -> Result<EventRow<'a>> {
        let txn = event.txn.as_ref().map(|key| (key.device.as_str(), &key.txn_id));
        Ok(EventRow(
            event.no,
            escaped(event.pdu.event_id().as_str()),
            room,
            offset,
            event.depth,
            event.status.code(),
            event.placement.code(),
            event.state_before,
            event.state_after,
            event.visibility.map(visibility_code),
            self.plan.redacted.get(&event.no).copied(),
            event.reason.as_deref().map(escaped),
            // JSON text: it escapes U+0000 by itself.
            txn.map(|txn| serde_json::to_string(&txn)).transpose()?,
            event.pdu.json(),
        ))
    }

    fn transactions(&mut self, now: i64) -> Result<()> {
        let mut rows: Vec<_> = events_of(self.accepted)
            .filter_map(|(_, event)| Some((event.txn.as_ref()?, event.no)))
            .collect();
        // In one order everywhere: two processes may write the same ones.
        rows.sort();
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(key, no)| {
                let device = escaped(key.device.as_str());
                (key.user, device, escaped(&key.path), escaped(&key.txn_id), no, now)
            })
            .collect();
        self.before(
            "INSERT INTO client_transaction (user_no, device, path, txn_id, event, ts) \
             SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, value ->> 2, value ->> 3, \
             CAST(value ->> 4 AS BIGINT), CAST(value ->> 5 AS BIGINT) FROM EACH($1)",
            &rows,
            Uses::Rows,
        )
    }

    fn redactions(&mut self, known: &Known) -> Result<()> {
        let new: HashMap<_, _> = events_of(self.accepted)
            .map(|(_, event)| (event.pdu.event_id(), event.no))
            .collect();
        let mut pending = Vec::new();
        for (room, event) in events_of(self.accepted) {
            if let Some(redacts) = &event.redacts
                && !new.contains_key(&*redacts.target)
                && !self.found.targets.contains_key(&redacts.target)
            {
                let from = redacts.only_from.as_ref().map(|server| escaped(server.as_str()));
                pending.push((escaped(redacts.target.as_str()), event.no, room, from));
            }
        }
        self.before(
            "INSERT INTO pending_redaction (target, redaction, room, only_from) \
             SELECT value ->> 0, CAST(value ->> 1 AS BIGINT), CAST(value ->> 2 AS BIGINT), \
             value ->> 3 FROM EACH($1) WHERE true ON CONFLICT (target, redaction) DO NOTHING",
            &pending,
            Uses::Rows,
        )?;
        let came: Vec<_> = known
            .redactions
            .keys()
            .filter(|target| new.contains_key(&***target))
            .map(|target| (escaped(target.as_str()),))
            .collect();
        self.before(
            "DELETE FROM pending_redaction WHERE target IN (SELECT value ->> 0 FROM EACH($1))",
            &came,
            Uses::Rows,
        )?;
        let stored: Vec<_> = self
            .found
            .targets
            .values()
            .filter_map(|target| Some((target.no, *self.plan.redacted.get(&target.no)?)))
            .collect();
        self.after(
            "UPDATE event SET redacted_by = x.redaction FROM (\
             SELECT CAST(value ->> 0 AS BIGINT) AS target, \
             CAST(value ->> 1 AS BIGINT) AS redaction FROM EACH($1)) AS x \
             WHERE event.no = x.target",
            &stored,
            Uses::Rows,
        )
    }

    /// Auth events of state events, and `prev_events` that we lack.
    fn edges(&mut self, known: &Known) -> Result<()> {
        let (mut auth, mut missing_auth) = (Vec::new(), Vec::new());
        let (mut missing, mut came, mut came_auth) = (Vec::new(), Vec::new(), Vec::new());
        for (room, event) in events_of(self.accepted) {
            let id = event.pdu.event_id();
            if event.pdu.state_key().is_some() {
                for auth_id in event.pdu.auth_events() {
                    match self.found.auth.get(auth_id) {
                        Some(no) => auth.push((event.no, *no)),
                        None => missing_auth.push((escaped(auth_id.as_str()), event.no)),
                    }
                }
            }
            if event.is_history() {
                for prev in event.pdu.prev_events() {
                    if known.events.get(prev).is_none_or(|prev| !prev.placed) {
                        missing.push((escaped(prev.as_str()), event.no, room));
                    }
                }
            }
            if event.placement != Placement::Outlier && known.wanted_prevs.contains(id) {
                came.push((escaped(id.as_str()),));
            }
            if known.wanted_auth.contains(id) {
                came_auth.push((escaped(id.as_str()), event.no));
            }
        }
        auth.sort();
        self.before(
            "INSERT INTO event_auth (event, auth) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT) FROM EACH($1) \
             WHERE true ON CONFLICT (event, auth) DO NOTHING",
            &auth,
            Uses::Rows,
        )?;
        self.before(
            "INSERT INTO missing_auth (auth_id, event) \
             SELECT value ->> 0, CAST(value ->> 1 AS BIGINT) FROM EACH($1) \
             WHERE true ON CONFLICT (auth_id, event) DO NOTHING",
            &missing_auth,
            Uses::Rows,
        )?;
        self.before(
            "INSERT INTO event_auth (event, auth) \
             SELECT m.event, CAST(value ->> 1 AS BIGINT) FROM EACH($1) \
             JOIN missing_auth m ON m.auth_id = value ->> 0 \
             WHERE true ON CONFLICT (event, auth) DO NOTHING",
            &came_auth,
            Uses::Rows,
        )?;
        self.before(
            "DELETE FROM missing_auth WHERE auth_id IN (SELECT value ->> 0 FROM EACH($1))",
            &came_auth,
            Uses::Rows,
        )?;
        self.before(
            "INSERT INTO missing_prev (missing, event, room) \
             SELECT value ->> 0, CAST(value ->> 1 AS BIGINT), CAST(value ->> 2 AS BIGINT) \
             FROM EACH($1) WHERE true ON CONFLICT (missing, event) DO NOTHING",
            &missing,
            Uses::Rows,
        )?;
        self.before(
            "DELETE FROM missing_prev WHERE missing IN (SELECT value ->> 0 FROM EACH($1))",
            &came,
            Uses::Rows,
        )
    }

    fn state(&mut self, known: &mut Known) -> Result<()> {
        let changes = self.planned(|planned| match planned {
            Planned::State { job, room, change } => {
                let job = self.job(*job)?;
                let write = job.set.rooms.get(*room)?;
                let member = job.gathered.rooms.get(*room)?.members.get(*change)?;
                let change = write.current.as_ref()?.changes.get(*change)?;
                Some((write.room, *change, *member))
            }
            _ => None,
        });
        let mut rows = Vec::with_capacity(changes.len());
        let mut current: BTreeMap<(RoomNo, KeyNo), (Option<EventNo>, i64)> = BTreeMap::new();
        for (offset, (room, change, member)) in &changes {
            let user = member.map(|member| member.user);
            let what = member.map(|member| code(member.membership));
            rows.push((offset, room, change.key, change.old, change.new, user, what));
            current.insert((*room, change.key), (change.new, *offset));
        }
        self.after(
            "INSERT INTO state_change (pos, room, state_key, old_event, new_event, member, membership) \
             SELECT CAST(value ->> 0 AS BIGINT) + $2, CAST(value ->> 1 AS BIGINT), \
             CAST(value ->> 2 AS BIGINT), CAST(value ->> 3 AS BIGINT), \
             CAST(value ->> 4 AS BIGINT), CAST(value ->> 5 AS BIGINT), \
             CAST(value ->> 6 AS BIGINT) FROM EACH($1)",
            &rows,
            Uses::Base,
        )?;
        let set: Vec<_> = current
            .iter()
            .filter_map(|((room, key), (event, offset))| Some((room, key, (*event)?, offset)))
            .collect();
        self.after(
            "INSERT INTO current_state (room, state_key, event, pos) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), \
             CAST(value ->> 2 AS BIGINT), CAST(value ->> 3 AS BIGINT) + $2 FROM EACH($1) \
             WHERE true ON CONFLICT (room, state_key) \
             DO UPDATE SET event = excluded.event, pos = excluded.pos",
            &set,
            Uses::Base,
        )?;
        let gone: Vec<_> = current
            .iter()
            .filter(|(_, (event, _))| event.is_none())
            .map(|((room, key), _)| (room, key))
            .collect();
        self.after(
            "DELETE FROM current_state WHERE (room, state_key) IN (\
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT) FROM EACH($1))",
            &gone,
            Uses::Rows,
        )?;
        self.members(&changes, known)
    }

    fn members(
        &mut self,
        changes: &[(i64, (RoomNo, crate::StateChange, Option<MemberChange>))],
        known: &mut Known,
    ) -> Result<()> {
        let mut members = Members {
            old: self.found.members.clone(),
            rows: BTreeMap::new(),
            servers: BTreeMap::new(),
        };
        for (offset, (room, change, member)) in changes {
            if let Some(member) = member {
                let head = known.rooms.get_mut(room).and_then(Option::as_mut);
                let counts = members.change(*room, *member, change.new, *offset);
                if let Some(head) = head {
                    head.joined += counts.0;
                    head.invited += counts.1;
                }
            }
        }
        for (offset, (user, room, gone)) in self.planned(|planned| self.invite_of(planned)) {
            members.invite(user, room, gone, offset);
        }
        let rows: Vec<_> = members
            .rows
            .iter()
            .map(|((user, room), row)| {
                let (since, since_offset) = row.since;
                let what = code(row.membership);
                (user, room, what, row.event, row.offset, since, since_offset, row.forgotten)
            })
            .collect();
        self.after(
            "INSERT INTO membership (user_no, room, membership, event, pos, since, forgotten) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), \
             CAST(value ->> 2 AS BIGINT), CAST(value ->> 3 AS BIGINT), \
             CAST(value ->> 4 AS BIGINT) + $2, \
             COALESCE(CAST(value ->> 5 AS BIGINT), CAST(value ->> 6 AS BIGINT) + $2), \
             CAST(value ->> 7 AS BIGINT) FROM EACH($1) WHERE true \
             ON CONFLICT (user_no, room) DO UPDATE SET membership = excluded.membership, \
             event = excluded.event, pos = excluded.pos, since = excluded.since, \
             forgotten = excluded.forgotten",
            &rows,
            Uses::Base,
        )?;
        let servers: Vec<_> = members
            .servers
            .iter()
            .filter(|(_, by)| **by != 0)
            .map(|((room, server), by)| (room, server, by))
            .collect();
        self.after(
            "INSERT INTO room_server (room, server, joined) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), \
             CAST(value ->> 2 AS BIGINT) FROM EACH($1) WHERE true \
             ON CONFLICT (room, server) DO UPDATE SET joined = room_server.joined + excluded.joined",
            &servers,
            Uses::Rows,
        )
    }

    fn invite_of(&self, planned: &Planned) -> Option<(UserNo, RoomNo, bool)> {
        let Planned::Fact { job, fact } = planned else {
            return None;
        };
        let job = self.job(*job)?;
        let room = (*job.gathered.fact_rooms.get(*fact)?)?;
        match job.set.facts.get(*fact)? {
            Fact::RemoteInvite { user, .. } => Some((*user, room, false)),
            Fact::RemoteInviteGone { user, .. } => Some((*user, room, true)),
            _ => None,
        }
    }

    fn facts(&mut self) -> Result<()> {
        let facts = self.planned(|planned| match planned {
            Planned::Fact { job, fact } => {
                let job = self.job(*job)?;
                Some((job.set.facts.get(*fact)?, *job.gathered.fact_rooms.get(*fact)?))
            }
            _ => None,
        });
        let mut rows = FactRows::default();
        for (offset, (fact, room)) in facts {
            rows.add(offset, fact, room);
        }
        self.moved_facts(&rows)?;
        self.invites(&rows)?;
        let (mut aliases, mut forgotten) = (Vec::new(), Vec::new());
        for fact in self.accepted.iter().flat_map(|(_, job)| &job.set.facts) {
            match fact {
                Fact::Alias { alias, room, creator } => {
                    aliases.push((escaped(alias.as_str()), room, creator));
                }
                Fact::Forget { user, room } => forgotten.push((user, room)),
                _ => {}
            }
        }
        self.before(
            "INSERT INTO room_alias (alias, room, creator) \
             SELECT value ->> 0, CAST(value ->> 1 AS BIGINT), CAST(value ->> 2 AS BIGINT) \
             FROM EACH($1)",
            &aliases,
            Uses::Rows,
        )?;
        self.after(
            "UPDATE membership SET forgotten = 1 WHERE membership IN (3, 4) AND (user_no, room) IN (\
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT) FROM EACH($1))",
            &forgotten,
            Uses::Rows,
        )
    }

    fn moved_facts(&mut self, rows: &FactRows<'_>) -> Result<()> {
        self.after(
            "INSERT INTO receipt (room, user_no, kind, thread, event_id, ts, pos) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), value ->> 2, \
             value ->> 3, value ->> 4, CAST(value ->> 5 AS BIGINT), \
             CAST(value ->> 6 AS BIGINT) + $2 FROM EACH($1) WHERE true \
             ON CONFLICT (room, user_no, kind, thread) DO UPDATE SET \
             event_id = excluded.event_id, ts = excluded.ts, pos = excluded.pos",
            &values(&rows.receipts, |(room, user, kind, thread), (id, ts, offset)| {
                (*room, *user, kind.clone(), thread.clone(), id.clone(), *ts, *offset)
            }),
            Uses::Base,
        )?;
        self.after(
            "INSERT INTO account_data (user_no, room, kind, content, pos) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), value ->> 2, \
             value ->> 3, CAST(value ->> 4 AS BIGINT) + $2 FROM EACH($1) WHERE true \
             ON CONFLICT (user_no, room, kind) \
             DO UPDATE SET content = excluded.content, pos = excluded.pos",
            &values(&rows.data, |(user, room, kind), (content, offset)| {
                (*user, *room, kind.clone(), content.clone(), *offset)
            }),
            Uses::Base,
        )?;
        self.after(
            "INSERT INTO device_list (user_no, pos) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT) + $2 FROM EACH($1) \
             WHERE true ON CONFLICT (user_no) DO UPDATE SET pos = excluded.pos",
            &values(&rows.device_lists, |user, offset| (*user, *offset)),
            Uses::Base,
        )?;
        self.after(
            "INSERT INTO revocation (pos, user_no, device) \
             SELECT CAST(value ->> 0 AS BIGINT) + $2, CAST(value ->> 1 AS BIGINT), value ->> 2 \
             FROM EACH($1)",
            &rows.revocations,
            Uses::Base,
        )
    }

    fn invites(&mut self, rows: &FactRows<'_>) -> Result<()> {
        self.after(
            "INSERT INTO invite (user_no, room, sender, version, event, stripped_state, gone, pos) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), \
             CAST(value ->> 2 AS BIGINT), value ->> 3, value ->> 4, value ->> 5, \
             CAST(value ->> 6 AS BIGINT), CAST(value ->> 7 AS BIGINT) + $2 FROM EACH($1) \
             WHERE true ON CONFLICT (user_no, room) DO UPDATE SET sender = excluded.sender, \
             version = excluded.version, event = excluded.event, \
             stripped_state = excluded.stripped_state, gone = excluded.gone, pos = excluded.pos",
            &values(&rows.invites, |(user, room), invite| {
                let InviteRow { sender, version, event, state, gone, offset } = invite;
                let (event, state) = (event.clone(), state.clone());
                (*user, *room, *sender, *version, event, state, i64::from(*gone), *offset)
            }),
            Uses::Base,
        )?;
        self.after(
            "UPDATE invite SET gone = 1, pos = x.pos FROM (\
             SELECT CAST(value ->> 0 AS BIGINT) AS user_no, CAST(value ->> 1 AS BIGINT) AS room, \
             CAST(value ->> 2 AS BIGINT) + $2 AS pos FROM EACH($1)) AS x \
             WHERE invite.user_no = x.user_no AND invite.room = x.room",
            &values(&rows.gone, |(user, room), offset| (*user, *room, *offset)),
            Uses::Base,
        )
    }

    fn outbound(&mut self) -> Result<()> {
        let events = self.planned(|planned| match planned {
            Planned::Event { job, room, event } => {
                let job = self.job(*job)?;
                let write = job.set.rooms.get(*room)?;
                let set = job.gathered.rooms.get(*room)?.sets.get(*event)?.as_ref()?;
                Some((write.room, write.events.get(*event)?.no, set))
            }
            _ => None,
        });
        let mut rows: Vec<(i64, RoomNo, EventNo, SetNo)> = Vec::with_capacity(events.len());
        let mut last: BTreeMap<(ServerNo, RoomNo), i64> = BTreeMap::new();
        for (offset, (room, no, destinations)) in events {
            rows.push((offset, room, no, destinations.set));
            for server in &destinations.servers {
                last.insert((*server, room), offset);
            }
        }
        self.after(
            "INSERT INTO outbound (pos, room, event, set_no) \
             SELECT CAST(value ->> 0 AS BIGINT) + $2, CAST(value ->> 1 AS BIGINT), \
             CAST(value ->> 2 AS BIGINT), CAST(value ->> 3 AS BIGINT) FROM EACH($1)",
            &rows,
            Uses::Base,
        )?;
        self.after(
            "INSERT INTO destination_room (server, room, last_pos) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), \
             CAST(value ->> 2 AS BIGINT) + $2 FROM EACH($1) WHERE true \
             ON CONFLICT (server, room) DO UPDATE SET last_pos = excluded.last_pos",
            &values(&last, |(server, room), offset| (*server, *room, *offset)),
            Uses::Base,
        )
    }

    fn rooms(&mut self, known: &Known) -> Result<()> {
        let mut rows = Vec::new();
        for head in known.rooms.values().flatten() {
            if known.changed.contains(&head.room) {
                rows.push((
                    head.room,
                    head.state_version,
                    head.snapshot,
                    extremities_text(&head.extremities)?,
                    head.joined,
                    head.invited,
                    i64::from(head.public),
                    self.plan.log.len(),
                ));
            }
        }
        self.after(
            "UPDATE room SET state_version = x.state_version, snapshot = x.snapshot, \
             extremities = x.extremities, joined = x.joined, invited = x.invited, \
             public = x.public, last_pos = x.last_pos FROM (\
             SELECT CAST(value ->> 0 AS BIGINT) AS no, CAST(value ->> 1 AS BIGINT) AS state_version, \
             CAST(value ->> 2 AS BIGINT) AS snapshot, value ->> 3 AS extremities, \
             CAST(value ->> 4 AS BIGINT) AS joined, CAST(value ->> 5 AS BIGINT) AS invited, \
             CAST(value ->> 6 AS BIGINT) AS public, CAST(value ->> 7 AS BIGINT) + $2 AS last_pos \
             FROM EACH($1)) AS x WHERE room.no = x.no",
            &rows,
            Uses::Base,
        )
    }
}

/// The last row of each key.
fn values<K, V, R>(rows: &BTreeMap<K, V>, row: impl Fn(&K, &V) -> R) -> Vec<R> {
    rows.iter().map(|(key, value)| row(key, value)).collect()
}

/// The memberships that change, in order; the last of each (user, room) is written.
struct Members {
    old: HashMap<(UserNo, RoomNo), OldMember>,
    rows: BTreeMap<(UserNo, RoomNo), MemberRow>,
    servers: BTreeMap<(RoomNo, ServerNo), i64>,
}

struct MemberRow {
    membership: Membership,
    event: Option<EventNo>,
    offset: i64,
    /// A position of before, or an offset.
    since: (Option<i64>, Option<i64>),
    forgotten: i64,
}

impl Members {
    /// Gives the changes of the numbers of joined and invited members.
    fn change(
        &mut self,
        room: RoomNo,
        new: MemberChange,
        event: Option<EventNo>,
        offset: i64,
    ) -> (i64, i64) {
        let key = (new.user, room);
        let before = self.old.get(&key).copied();
        let counted = before.filter(|old| old.counted).map(|old| old.membership);
        let delta = |which| i64::from(new.membership == which) - i64::from(counted == Some(which));
        let (joined, invited) = (delta(Membership::Join), delta(Membership::Invite));
        *self.servers.entry((room, new.server)).or_default() += joined;
        self.put(key, before, new.membership, event, offset, true);
        (joined, invited)
    }

    fn invite(&mut self, user: UserNo, room: RoomNo, gone: bool, offset: i64) {
        let key = (user, room);
        let before = self.old.get(&key).copied();
        // We are in the room: its state says what the user's membership is.
        let is_ours = before.is_some_and(|old| {
            old.counted && matches!(old.membership, Membership::Join | Membership::Invite)
        });
        let is_invited = before.is_some_and(|old| old.membership == Membership::Invite);
        if is_ours || (gone && !is_invited) {
            return;
        }
        let membership = if gone { Membership::Leave } else { Membership::Invite };
        self.put(key, before, membership, None, offset, false);
    }

    fn put(
        &mut self,
        key: (UserNo, RoomNo),
        before: Option<OldMember>,
        membership: Membership,
        event: Option<EventNo>,
        offset: i64,
        counted: bool,
    ) {
        let same = before.filter(|old| old.membership == membership);
        let since = match (same, self.rows.get(&key)) {
            (Some(_), Some(row)) => row.since,
            (Some(old), None) => (Some(old.since), None),
            (None, _) => (None, Some(offset)),
        };
        let forgotten = same.map_or(0, |old| old.forgotten);
        self.rows.insert(key, MemberRow { membership, event, offset, since, forgotten });
        let old = OldMember {
            membership,
            counted,
            since: since.0.unwrap_or_default(),
            forgotten,
        };
        self.old.insert(key, old);
    }
}

/// Rows of facts by key: a later fact of the same group takes the place of an earlier one.
#[derive(Default)]
struct FactRows<'a> {
    receipts: BTreeMap<(RoomNo, UserNo, Cow<'a, str>, Cow<'a, str>), (Cow<'a, str>, i64, i64)>,
    data: BTreeMap<(UserNo, i64, Cow<'a, str>), (Cow<'a, str>, i64)>,
    device_lists: BTreeMap<UserNo, i64>,
    revocations: Vec<(i64, UserNo, Option<Cow<'a, str>>)>,
    invites: BTreeMap<(UserNo, RoomNo), InviteRow<'a>>,
    /// Invites from earlier groups that are gone.
    gone: BTreeMap<(UserNo, RoomNo), i64>,
}

struct InviteRow<'a> {
    sender: UserNo,
    version: &'a str,
    event: Cow<'a, str>,
    state: Cow<'a, str>,
    gone: bool,
    offset: i64,
}

impl<'a> FactRows<'a> {
    fn add(&mut self, offset: i64, fact: &'a Fact, room_of_invite: Option<RoomNo>) {
        match fact {
            Fact::Receipt { room, user, kind, thread, event_id, ts } => {
                let thread = thread.as_deref().unwrap_or("");
                let key = (*room, *user, escaped(kind), escaped(thread));
                let row = (escaped(event_id.as_str()), *ts, offset);
                self.receipts.insert(key, row);
            }
            Fact::AccountData { user, room, kind, content } => {
                let room = room.map_or(GLOBAL, |room| room.0);
                let key = (*user, room, escaped(kind));
                self.data.insert(key, (escaped(content), offset));
            }
            Fact::DeviceListChanged { user } => drop(self.device_lists.insert(*user, offset)),
            Fact::TokenRevoked { user, device } => {
                let device = device.as_ref().map(|device| escaped(device.as_str()));
                self.revocations.push((offset, *user, device));
            }
            Fact::RemoteInvite { user, sender, rules, event, stripped_state, .. } => {
                let invite = InviteRow {
                    sender: *sender,
                    version: rules.id(),
                    event: escaped(event),
                    state: escaped(stripped_state),
                    gone: false,
                    offset,
                };
                let key = (*user, room_of_invite.unwrap_or_default());
                self.gone.remove(&key);
                self.invites.insert(key, invite);
            }
            Fact::RemoteInviteGone { user, .. } => {
                let key = (*user, room_of_invite.unwrap_or_default());
                match self.invites.get_mut(&key) {
                    Some(invite) => (invite.gone, invite.offset) = (true, offset),
                    None => drop(self.gone.insert(key, offset)),
                }
            }
            Fact::Forget { .. } | Fact::Alias { .. } | Fact::Directory { .. } => {}
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

/// A fact that can't be published is a bug of this module.
pub(super) fn lost() -> Error {
    Error::broken("a planned log entry has no source")
}
