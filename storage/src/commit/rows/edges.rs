//! Rows between events: what they name, and where they go.

use std::collections::BTreeMap;

use ruma::EventId;

use super::{Maker, Planned, events_of};
use crate::commit::decide::GroupState;
use crate::engine::sql::rows;
use crate::rooms::{relation, relationship};
use crate::{EventNo, NewEvent, Placement, Result, RoomNo, SetNo};

rows! {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct AuthRow {
        event: EventNo,
        auth: EventNo,
    }
}

rows! {
    /// An event that is named, and a number: of the event that names it, or its own.
    struct NamedRow<'a> {
        event_id: &'a EventId,
        event: EventNo,
        room: RoomNo,
    }
}

rows! {
    struct OutboundRow {
        pos: i64,
        room: RoomNo,
        event: EventNo,
        set_no: SetNo,
    }
}

rows! {
    struct LastRow {
        set_no: SetNo,
        last_pos: i64,
    }
}

impl Maker<'_> {
    /// Auth events of state events.
    pub(super) fn auth_edges(&mut self, known: &GroupState) -> Result<()> {
        let (mut auth, mut missing, mut came) = (Vec::new(), Vec::new(), Vec::new());
        for (room, new) in events_of(self.accepted) {
            let event = new.no;
            let is_state = new.pdu.state_key().is_some();
            for event_id in new.pdu.auth_events().iter().filter(|_| is_state) {
                match self.found.auth.get(event_id) {
                    Some(no) => auth.push(AuthRow { event, auth: *no }),
                    None => missing.push(NamedRow {
                        event_id,
                        event,
                        room,
                    }),
                }
            }
            let event_id = new.pdu.event_id();
            if known.wanted_auth.contains(event_id) {
                came.push(NamedRow {
                    event_id,
                    event,
                    room,
                });
            }
        }
        auth.sort();
        self.plan.statements.before(
            "INSERT INTO event_auth (event, auth) SELECT event, auth FROM ROWS($1) AS x \
             WHERE true ON CONFLICT (event, auth) DO NOTHING",
            &auth,
        )?;
        self.plan.statements.before(
            "INSERT INTO missing_auth (auth_id, event) SELECT event_id, event FROM ROWS($1) AS x \
             WHERE true ON CONFLICT (auth_id, event) DO NOTHING",
            &missing,
        )?;
        self.plan.statements.before(
            "INSERT INTO event_auth (event, auth) SELECT m.event, x.event FROM ROWS($1) AS x \
             JOIN missing_auth m ON m.auth_id = x.event_id \
             WHERE true ON CONFLICT (event, auth) DO NOTHING",
            &came,
        )?;
        self.plan.statements.before(
            "DELETE FROM missing_auth WHERE auth_id IN (SELECT event_id FROM ROWS($1) AS x)",
            &came,
        )
    }

    /// `prev_events` that we lack, and those that we lacked.
    pub(super) fn prev_edges(&mut self, known: &GroupState) -> Result<()> {
        let (mut missing, mut came) = (Vec::new(), Vec::new());
        for (room, new) in events_of(self.accepted) {
            let event = new.no;
            for event_id in lacking(new, known) {
                missing.push(NamedRow {
                    event_id,
                    event,
                    room,
                });
                self.plan.gapped.insert(event);
            }
            let event_id = new.pdu.event_id();
            if new.placement != Placement::Outlier && known.wanted_prevs.contains(event_id) {
                came.push(NamedRow {
                    event_id,
                    event,
                    room,
                });
            }
        }
        self.plan.statements.before(
            "INSERT INTO missing_prev (missing, event, room) \
             SELECT event_id, event, room FROM ROWS($1) AS x \
             WHERE true ON CONFLICT (missing, event) DO NOTHING",
            &missing,
        )?;
        self.plan.statements.before(
            "DELETE FROM missing_prev WHERE missing IN (SELECT event_id FROM ROWS($1) AS x)",
            &came,
        )
    }

    /// What events relate to, once it is settled where they are and whether they are redacted.
    pub(super) fn relations(&mut self) -> Result<()> {
        let rooms = (self.accepted.iter()).flat_map(|(_, job)| &job.gathered.rooms);
        let rows: Vec<_> = rooms.flat_map(|gathered| &gathered.relations).collect();
        self.plan.statements.after(relation::rows::INSERT, &rows)?;
        let threaded: Vec<_> = rows.into_iter().filter(|row| row.is_threaded()).collect();
        (self.plan.statements).after(relation::rows::IN_THREADS, &threaded)?;
        let rooms = (self.accepted.iter()).flat_map(|(_, job)| &job.gathered.rooms);
        let rows: Vec<_> = rooms.flat_map(|gathered| &gathered.relationships).collect();
        self.plan.statements.before(relationship::INSERT, &rows)
    }

    pub(super) fn outbound(&mut self) -> Result<()> {
        let events = self.planned(|planned| match planned {
            Planned::Event { job, room, event } => {
                let job = self.job(*job)?;
                let write = job.set.rooms.get(*room)?;
                let set = job.gathered.rooms.get(*room)?.sets.get(*event).copied()??;
                Some((write.room, write.events.get(*event)?.no, set))
            }
            _ => None,
        });
        let mut rows = Vec::with_capacity(events.len());
        let mut last: BTreeMap<SetNo, i64> = BTreeMap::new();
        for (pos, (room, event, set_no)) in events {
            rows.push(OutboundRow {
                pos,
                room,
                event,
                set_no,
            });
            last.insert(set_no, pos);
        }
        self.plan.statements.after_in(
            "outbound",
            "INSERT INTO outbound (pos, room, event, set_no) \
             SELECT pos + $2, room, event, set_no FROM ROWS($1) AS x",
            &rows,
        )?;
        let last: Vec<_> = (last.into_iter())
            .map(|(set_no, last_pos)| LastRow { set_no, last_pos })
            .collect();
        self.plan.statements.after_in(
            "outbound_last",
            "INSERT INTO outbound_last (set_no, last_pos) \
             SELECT set_no, last_pos + $2 FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (set_no) DO UPDATE SET last_pos = excluded.last_pos",
            &last,
        )?;
        Ok(())
    }
}

/// The `prev_events` of an event of the history that aren't part of it.
fn lacking<'a>(new: &'a NewEvent, known: &GroupState) -> impl Iterator<Item = &'a EventId> {
    let prevs = new.pdu.prev_events().iter().filter(|_| new.is_history());
    let lacking = prevs.filter(|prev| known.events.get(*prev).is_none_or(|prev| !prev.placed));
    lacking.map(|prev| &**prev)
}
