//! Rows of events: the events themselves, their transactions, redactions, edges and destinations.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::Job;
use super::decide::Known;
use super::group::Uses;
use super::rows::{Found, Maker, Planned, events_of, redactions_of, values};
use crate::engine::dialect::escaped;
use crate::rooms::events::visibility_code;
use crate::{EventNo, NewEvent, Placement, Result, RoomNo, ServerNo, SetNo, SnapshotNo, TxnOwner};

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
    json = CASE WHEN event.redacted_by IS NULL THEN excluded.json ELSE event.json END, \
    redacted_by = COALESCE(event.redacted_by, excluded.redacted_by) \
    WHERE event.event_id = excluded.event_id";

/// Which events are redacted now: by redactions of this group, or by some that came before them.
pub(super) fn redacted(
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
    for (room, redaction, redacts) in redactions_of(accepted) {
        let from = redacts.only_from.as_ref();
        let target = match (
            new.get(&*redacts.target),
            found.targets.get(&redacts.target),
        ) {
            (Some((of, event)), _) => (*of, event.no, event.pdu.sender(), None),
            (None, Some(event)) => (event.room, event.no, event.pdu.sender(), event.redacted_by),
            (None, None) => continue,
        };
        let (of, no, sender, before) = target;
        let allowed = from.is_none_or(|server| server == sender.server_name());
        if of == room && allowed && before.is_none() {
            redacted.entry(no).or_insert(redaction);
        }
    }
    redacted
}

/// What a stored event remembers of its transaction.
pub(super) fn txn_owner(event: &NewEvent) -> Option<TxnOwner> {
    event.txn.as_ref().map(|key| TxnOwner {
        device: key.device.clone(),
        txn_id: key.txn_id.clone(),
    })
}

impl<'a> Maker<'a> {
    pub(super) fn events(&mut self) -> Result<()> {
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
            let offset = positions
                .get(&event.no)
                .or_else(|| self.plan.offsets.get(&event.no));
            let row = self.event_row(room, event, offset.copied())?;
            if offset.is_some() {
                &mut placed
            } else {
                &mut others
            }
            .push(row);
        }
        // A number that another event has would leave its row out.
        let (count_others, count_placed) = (others.len() as u64, placed.len() as u64);
        self.before(INSERT_EVENT, &others, Uses::BaseAndBack)?;
        if let Some(last) = self.plan.before.last_mut().filter(|_| count_others > 0) {
            last.expect = Some(count_others);
        }
        self.after(INSERT_EVENT, &placed, Uses::BaseAndBack)?;
        if let Some(last) = self.plan.after.last_mut().filter(|_| count_placed > 0) {
            last.expect = Some(count_placed);
        }
        Ok(())
    }

    /// Stored events that get their content.
    pub(super) fn restored(&mut self) -> Result<()> {
        let restored = self.planned(|planned| match planned {
            Planned::Restored {
                job,
                room,
                restored,
            } => {
                let write = self.job(*job)?.set.rooms.get(*room)?;
                Some((write.room, write.restored.get(*restored)?))
            }
            _ => None,
        });
        let texts: Vec<_> = (restored.iter())
            .map(|(_, (_, event))| {
                let id = escaped(event.pdu.event_id().as_str());
                (event.no, id, &**event.pdu.json())
            })
            .collect();
        self.before(
            "UPDATE event SET json = x.json FROM (\
             SELECT CAST(value ->> 0 AS BIGINT) AS no, value ->> 1 AS event_id, \
             value ->> 2 AS json FROM EACH($1)) AS x \
             WHERE event.no = x.no AND event.event_id = x.event_id AND event.redacted_by IS NULL",
            &texts,
            Uses::Rows,
        )?;
        let rows: Vec<_> = (restored.iter())
            .map(|(offset, (room, event))| (offset, room, event.no))
            .collect();
        self.after(
            "INSERT INTO restored (pos, room, event) \
             SELECT CAST(value ->> 0 AS BIGINT) + $2, CAST(value ->> 1 AS BIGINT), \
             CAST(value ->> 2 AS BIGINT) FROM EACH($1)",
            &rows,
            Uses::Base,
        )
    }

    fn event_row(
        &self,
        room: RoomNo,
        event: &'a NewEvent,
        offset: Option<i64>,
    ) -> Result<EventRow<'a>> {
        let txn = event
            .txn
            .as_ref()
            .map(|key| (key.device.as_str(), &key.txn_id));
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

    pub(super) fn transactions(&mut self, now: i64) -> Result<()> {
        let mut rows: Vec<_> = events_of(self.accepted)
            .filter_map(|(_, event)| Some((event.txn.as_ref()?, event.no)))
            .collect();
        // In one order everywhere: two processes may write the same ones.
        rows.sort();
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(key, no)| {
                let device = escaped(key.device.as_str());
                (
                    key.user,
                    device,
                    escaped(&key.path),
                    escaped(&key.txn_id),
                    no,
                    now,
                )
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

    pub(super) fn redactions(&mut self, known: &Known) -> Result<()> {
        let new: HashMap<_, _> = events_of(self.accepted)
            .map(|(_, event)| (event.pdu.event_id(), event.no))
            .collect();
        let mut pending = Vec::new();
        for (room, redaction, redacts) in redactions_of(self.accepted) {
            if !new.contains_key(&*redacts.target)
                && !self.found.targets.contains_key(&redacts.target)
            {
                let from = redacts
                    .only_from
                    .as_ref()
                    .map(|server| escaped(server.as_str()));
                pending.push((escaped(redacts.target.as_str()), redaction, room, from));
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
    pub(super) fn edges(&mut self, known: &Known) -> Result<()> {
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
                        self.plan.gapped.insert(event.no);
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

    pub(super) fn outbound(&mut self) -> Result<()> {
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
            for server in destinations.servers.iter() {
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
}
