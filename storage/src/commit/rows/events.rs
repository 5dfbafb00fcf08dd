//! Rows of events: the events themselves, their transactions and redactions.

use std::collections::HashMap;

use rhizome_protocol::visibility::HistoryVisibility;
use ruma::{EventId, OwnedDeviceId, OwnedEventId, OwnedServerName};

use super::{Found, Maker, Planned, events_of, redactions_of};
use crate::commit::Job;
use crate::commit::decide::GroupState;
use crate::engine::sql::rows;
use crate::rooms::relation;
use crate::{EventNo, NewEvent, Placement, Result, RoomNo, SnapshotNo, Status, TxnOwner, UserNo};

rows! {
    /// A row of `event`.
    struct EventRow<'a> {
        no: EventNo,
        event_id: &'a EventId,
        room: RoomNo,
        /// From the group's first position, or if negative from the lowest order.
        ord: Option<i64>,
        depth: i64,
        status: Status,
        placement: Placement,
        state_before: Option<SnapshotNo>,
        state_after: Option<SnapshotNo>,
        visibility: Option<HistoryVisibility>,
        redacted_by: Option<EventNo>,
        reason: Option<&'a str>,
        txn: Option<String>,
        json: &'a str,
        ts: i64,
    }
}

const INSERT_EVENT: &str = "\
    INSERT INTO event (no, event_id, room, ord, depth, status, placement, state_before, \
    state_after, visibility, redacted_by, reason, txn, json, ts) \
    SELECT no, event_id, room, CASE WHEN ord > 0 THEN ord + $2 ELSE ord + $3 END, depth, status, \
    placement, state_before, state_after, visibility, redacted_by, reason, txn, json, ts \
    FROM ROWS($1) AS x WHERE true ON CONFLICT (no) DO UPDATE SET ord = excluded.ord, \
    depth = excluded.depth, status = excluded.status, placement = excluded.placement, \
    state_before = excluded.state_before, state_after = excluded.state_after, \
    visibility = excluded.visibility, reason = excluded.reason, txn = excluded.txn, ts = excluded.ts, \
    json = CASE WHEN event.redacted_by IS NULL THEN excluded.json ELSE event.json END, \
    redacted_by = COALESCE(event.redacted_by, excluded.redacted_by) \
    WHERE event.event_id = excluded.event_id";

/// Which events are redacted now: by redactions of this group, or by some that came before them.
pub(in crate::commit) fn redacted(
    accepted: &[(usize, &Job)],
    known: &GroupState,
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
pub(in crate::commit) fn txn_owner(event: &NewEvent) -> Option<TxnOwner> {
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
        let statements = &mut self.plan.statements;
        // A number that another event has would leave its row out.
        if let Some(statement) = statements.before_in("event", INSERT_EVENT, &others)? {
            statement.expect = Some(others.len());
        }
        if let Some(statement) = statements.after_in("event", INSERT_EVENT, &placed)? {
            statement.expect = Some(placed.len());
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
            .map(|(_, (_, event))| TextRow {
                no: event.no,
                event_id: event.pdu.event_id(),
                json: event.pdu.json(),
            })
            .collect();
        self.plan.statements.before(
            "UPDATE event SET json = x.json FROM ROWS($1) AS x \
             WHERE event.no = x.no AND event.event_id = x.event_id AND event.redacted_by IS NULL",
            &texts,
        )?;
        let rows: Vec<_> = (restored.iter())
            .map(|(pos, (room, event))| RestoredRow {
                pos: *pos,
                room: *room,
                event: event.no,
            })
            .collect();
        self.plan.statements.after(
            "INSERT INTO restored (pos, room, event) SELECT pos + $2, room, event FROM ROWS($1) AS x",
            &rows,
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
        Ok(EventRow {
            no: event.no,
            event_id: event.pdu.event_id(),
            room,
            ord: offset,
            depth: event.depth,
            status: event.status,
            placement: event.placement,
            state_before: event.state_before,
            state_after: event.state_after,
            visibility: event.visibility,
            redacted_by: self.plan.redacted.get(&event.no).copied(),
            reason: event.reason.as_deref(),
            txn: txn.map(|txn| serde_json::to_string(&txn)).transpose()?,
            json: event.pdu.json(),
            ts: event.pdu.origin_server_ts(),
        })
    }

    pub(super) fn transactions(&mut self, now: i64) -> Result<()> {
        let mut rows: Vec<_> = events_of(self.accepted)
            .filter_map(|(_, event)| Some((event.txn.as_ref()?, event.no)))
            .collect();
        // In one order everywhere: two processes may write the same ones.
        rows.sort();
        let rows: Vec<_> = (rows.into_iter())
            .map(|(key, event)| TxnRow {
                user_no: key.user,
                device: &key.device,
                path: &key.path,
                txn_id: &key.txn_id,
                event,
                ts: now,
            })
            .collect();
        self.plan.statements.before_in(
            "client_transaction",
            "INSERT INTO client_transaction (user_no, device, path, txn_id, event, ts) \
             SELECT user_no, device, path, txn_id, event, ts FROM ROWS($1) AS x",
            &rows,
        )?;
        Ok(())
    }

    pub(super) fn redactions(&mut self, known: &GroupState) -> Result<()> {
        let new: HashMap<_, _> = events_of(self.accepted)
            .map(|(_, event)| (event.pdu.event_id(), event.no))
            .collect();
        let mut pending = Vec::new();
        for (room, redaction, redacts) in redactions_of(self.accepted) {
            if !new.contains_key(&*redacts.target)
                && !self.found.targets.contains_key(&redacts.target)
            {
                pending.push(PendingRow {
                    target: &redacts.target,
                    redaction,
                    room,
                    only_from: redacts.only_from.as_ref(),
                });
            }
        }
        self.plan.statements.before(
            "INSERT INTO pending_redaction (target, redaction, room, only_from) \
             SELECT target, redaction, room, only_from FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (target, redaction) DO UPDATE SET only_from = excluded.only_from",
            &pending,
        )?;
        let came: Vec<_> = (known.redactions.keys())
            .filter(|target| new.contains_key(&***target))
            .map(|target| IdRow { event_id: target })
            .collect();
        self.plan.statements.before(
            "DELETE FROM pending_redaction WHERE target IN (SELECT event_id FROM ROWS($1) AS x)",
            &came,
        )?;
        let stored: Vec<_> = (self.found.targets.values())
            .filter_map(|target| {
                Some(RedactedRow {
                    target: target.no,
                    redaction: *self.plan.redacted.get(&target.no)?,
                })
            })
            .collect();
        self.plan.statements.after(
            "UPDATE event SET redacted_by = x.redaction FROM ROWS($1) AS x WHERE event.no = x.target",
            &stored,
        )?;
        (self.plan.statements).after(relation::rows::OUT_OF_THREADS, &stored)?;
        (self.plan.statements).after(relation::rows::DELETE, &stored)
    }
}

rows! {
    struct TextRow<'a> {
        no: EventNo,
        event_id: &'a EventId,
        json: &'a str,
    }
}

rows! {
    struct RestoredRow {
        pos: i64,
        room: RoomNo,
        event: EventNo,
    }
}

rows! {
    struct TxnRow<'a> {
        user_no: UserNo,
        device: &'a OwnedDeviceId,
        path: &'a str,
        txn_id: &'a str,
        event: EventNo,
        ts: i64,
    }
}

rows! {
    struct PendingRow<'a> {
        target: &'a OwnedEventId,
        redaction: EventNo,
        room: RoomNo,
        only_from: Option<&'a OwnedServerName>,
    }
}

rows! {
    struct IdRow<'a> {
        event_id: &'a EventId,
    }
}

rows! {
    struct RedactedRow {
        target: EventNo,
        redaction: EventNo,
    }
}
