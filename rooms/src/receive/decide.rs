//! What becomes of the room when an event joins it.

use std::{collections::HashSet, sync::Arc};

use rhizome_protocol::{Pdu, auth};
use rhizome_storage::{
    CurrentState, NewEvent, NewSnapshot, Placement, RoomHead, StateChange, Status,
};
use ruma::OwnedServerName;

use super::{
    How, Received,
    backfill::redacts_now,
    ends::{self, Ends},
    place::{Placed, view_of},
};
use crate::{Rooms, error::Result, send::send_to, state::Resolved};

pub(super) struct Decided {
    pub(super) outcome: Received,
    pub(super) event: NewEvent,
    pub(super) snapshots: Vec<NewSnapshot>,
    pub(super) current: Option<CurrentState>,
    pub(super) ends: Ends,
}

/// Looks at the room's current state: whether it allows the event, and what becomes of it.
pub(super) async fn decide(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Arc<Pdu>,
    placed: &Placed,
    how: How,
) -> Result<Decided> {
    let store = rooms.store();
    let mut event = placed.event.clone();
    let mut snapshots = placed.after.new.clone();

    // 6. Passes authorisation rules based on the current state, otherwise it is "soft failed".
    if placed.before.snapshot != head.snapshot {
        let current = Resolved::stored_or_empty(head.snapshot);
        let current = view_of(rooms, &current, pdu).await?;
        if let Err(rejection) = auth::authorize(pdu, &current) {
            // History is history all the same, it only moves nothing.
            let mut outcome = Received::Accepted;
            if how.placement == Placement::Live {
                event.status = Status::SoftFailed;
                event.reason = Some(rejection.to_string());
                event.redacts = None;
                outcome = Received::SoftFailed(rejection);
            }
            return Ok(Decided {
                outcome,
                event,
                snapshots,
                current: None,
                ends: Ends::default(),
            });
        }
        // The state before it may be an old one, or one that was told.
        if let Some(redacts) = event.redacts.take() {
            event.redacts = Some(redacts_now(rooms, head, pdu, redacts).await?);
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
