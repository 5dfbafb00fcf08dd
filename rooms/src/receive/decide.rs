//! What becomes of the room when an event joins it.

use std::{collections::HashSet, sync::Arc};

use rhizome_protocol::{Pdu, Rejection, auth};
use rhizome_storage::{
    CurrentState, NewEvent, NewSnapshot, Placement, RoomHead, StateChange, Status,
};
use ruma::OwnedServerName;

use super::{
    How, Need, Received,
    backfill::redacts_now,
    ends::{self, Ends},
    place::{Placed, view_of},
};
use crate::{
    Rooms,
    error::Result,
    policy_server::{self, Asked, Verdict},
    send::send_to,
    state::Resolved,
};

pub(super) struct Decided {
    pub(super) outcome: Received,
    pub(super) event: NewEvent,
    pub(super) snapshots: Vec<NewSnapshot>,
    pub(super) current: Option<CurrentState>,
    pub(super) ends: Ends,
}

impl Decided {
    /// The room stays as it is.
    fn aside(outcome: Received, event: NewEvent, snapshots: Vec<NewSnapshot>) -> Self {
        Self {
            outcome,
            event,
            snapshots,
            current: None,
            ends: Ends::default(),
        }
    }

    /// The event is kept, and nobody sees it.
    fn soft_failed(rejection: Rejection, event: NewEvent, snapshots: Vec<NewSnapshot>) -> Self {
        let event = NewEvent {
            status: Status::SoftFailed,
            reason: Some(rejection.to_string()),
            redacts: None,
            ..event
        };
        Self::aside(Received::SoftFailed(rejection), event, snapshots)
    }
}

/// Looks at the room's current state: whether it allows the event, and what becomes of it. Without the signature of the
/// policy server that it names nothing does ([`Received::Need`]), unless that was asked.
pub(super) async fn decide(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Arc<Pdu>,
    placed: &Placed,
    (how, asked): (How, &Asked),
) -> Result<Decided> {
    let store = rooms.store();
    let mut event = placed.event.clone();
    let mut snapshots = placed.after.new.clone();

    // 6. Passes authorisation rules based on the current state, otherwise it is "soft failed".
    if placed.before.snapshot != head.snapshot {
        let current = Resolved::stored_or_empty(head.snapshot);
        let mut current = view_of(rooms, &current, pdu).await?;
        current.learn(&placed.learnt);
        if let Err(rejection) = auth::authorize(pdu, &current) {
            if how.placement == Placement::Live {
                return Ok(Decided::soft_failed(rejection, event, snapshots));
            }
            // History is history all the same, it only moves nothing.
            return Ok(Decided::aside(Received::Accepted, event, snapshots));
        }
        // The state before it may be an old one, or one that was told.
        if let Some(redacts) = event.redacts.take() {
            event.redacts = Some(redacts_now(rooms, head, pdu, redacts).await?);
        }
    }

    // 7. Is validated by the policy server, if the room is using one, otherwise it is "soft failed". What was said before we
    // looked is history, whoever has signed it.
    if how.placement == Placement::Live {
        match policy_server::verdict(rooms, head, pdu, asked).await? {
            Verdict::Passes => {}
            Verdict::Refused(rejection) => {
                return Ok(Decided::soft_failed(rejection, event, snapshots));
            }
            Verdict::Unsigned(policy) => {
                let need = Need {
                    signature: Some(policy),
                    ..Need::default()
                };
                return Ok(Decided::aside(Received::Need(need), event, snapshots));
            }
        }
    }

    if how.relay {
        event.send_to = relay_to(rooms, head, pdu).await?;
    }
    let mut ends = ends::after(rooms, head, placed).await?;
    let now = std::mem::take(&mut ends.now);
    let mut changes = Vec::new();
    if now.snapshot != head.snapshot {
        for (key, old, new) in now.diff_from(store, head.snapshot).await? {
            changes.push(StateChange { key, old, new });
        }
    }
    let current = if changes.is_empty() {
        // That an end isn't needed is true beside these others: the version tells whoever decides upon them.
        let same = head.snapshot.filter(|_| ends.compared);
        same.map(|snapshot| CurrentState { snapshot, changes })
    } else {
        let known: HashSet<_> = snapshots.iter().map(NewSnapshot::no).collect();
        let new = now.new.iter().filter(|new| !known.contains(&new.no()));
        snapshots.extend(new.cloned());
        now.snapshot
            .map(|snapshot| CurrentState { snapshot, changes })
    };
    Ok(Decided {
        outcome: Received::Accepted,
        event,
        snapshots,
        current,
        ends,
    })
}

/// The servers that we, as the room's door, pass an event on to: all in the room but its own.
async fn relay_to(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Pdu,
) -> Result<Option<Vec<OwnedServerName>>> {
    let mut servers = rooms.store().joined_servers(head.room).await?.to_vec();
    servers.retain(|server| server != rooms.server_name());
    let mut to = send_to(rooms, &servers, pdu).unwrap_or_default();
    to.retain(|server| server != pdu.sender().server_name());
    Ok((!to.is_empty()).then_some(to))
}
