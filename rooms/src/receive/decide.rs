//! What becomes of the room when an event joins it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{Pdu, auth};
use rhizome_storage::{
    CurrentState, EventNo, NewEvent, NewSnapshot, RoomHead, StateChange, Status, StoredEvent,
};
use ruma::{OwnedEventId, OwnedServerName, ServerName};

use super::{
    How, Received,
    place::{Placed, view_of},
};
use crate::{
    Rooms,
    error::Result,
    send::send_to,
    state_at::{self, Fork, Resolved},
};

/// More forward extremities than this are not kept. An event of ours ties up twenty.
const MAX_EXTREMITIES: usize = 50;

pub(super) struct Decided {
    pub(super) outcome: Received,
    pub(super) event: NewEvent,
    pub(super) snapshots: Vec<NewSnapshot>,
    pub(super) current: Option<CurrentState>,
    pub(super) drop: Vec<EventNo>,
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
            event.status = Status::SoftFailed;
            event.reason = Some(rejection.to_string());
            event.redacts = None;
            let outcome = Received::SoftFailed(rejection);
            return Ok(Decided {
                outcome,
                event,
                snapshots,
                current: None,
                drop: Vec::new(),
            });
        }
    }

    if how.relay {
        event.send_to = relay_to(rooms, head, pdu).await?;
    }
    let Ends {
        forks,
        drop,
        as_before,
    } = extremities(rooms, head, pdu, placed).await?;
    // One that came late, after events that follow it, is no extremity.
    let late = !forks.is_empty() && store.is_missing_prev(pdu.event_id()).await?;
    let now = if as_before || (late && forks.len() == head.extremities.len()) {
        Resolved::stored_or_empty(head.snapshot)
    } else if late {
        state_at::resolve(rooms, head, forks, None).await?
    } else if forks.is_empty() {
        placed.after.clone()
    } else {
        merge(rooms, head, placed, forks).await?
    };
    let mut changes = Vec::new();
    if now.snapshot != head.snapshot {
        for (key, old, new) in now.diff_from(store, head.snapshot).await? {
            changes.push(StateChange { key, old, new });
        }
    }
    if !changes.is_empty() {
        let known: HashSet<_> = snapshots.iter().map(NewSnapshot::no).collect();
        let new = now.new.iter().filter(|new| !known.contains(&new.no()));
        snapshots.extend(new.cloned());
    }
    let current = now
        .snapshot
        .filter(|_| !changes.is_empty())
        .map(|snapshot| CurrentState { snapshot, changes });
    Ok(Decided {
        outcome: Received::Accepted,
        event,
        snapshots,
        current,
        drop,
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

/// What a new event leaves of the room's extremities.
struct Ends {
    /// The states of those that stay beside it.
    forks: Vec<Fork>,
    /// Those to drop, because the event descends from them through events that were not accepted, or because
    /// there are too many.
    drop: Vec<EventNo>,
    /// The states that meet now are those that met before: the new event goes on from one of them and
    /// changes nothing. So the current state stays as it is.
    as_before: bool,
}

async fn extremities(rooms: &Rooms, head: &RoomHead, pdu: &Pdu, placed: &Placed) -> Result<Ends> {
    let store = rooms.store();
    let prevs = &placed.prevs;
    let mut covered: HashSet<OwnedEventId> = pdu.prev_events().iter().cloned().collect();
    // Through refused events: a bounded walk, what it doesn't reach merely stays an extremity.
    let mut walk: Vec<Arc<StoredEvent>> = prevs.clone();
    let mut steps = 0;
    while let Some(event) = walk.pop() {
        steps += 1;
        if event.status == Status::Accepted || steps > 100 {
            continue;
        }
        covered.extend(event.pdu.prev_events().iter().cloned());
        walk.extend(store.events(event.pdu.prev_events()).await?);
    }
    let mut drop = Vec::new();
    let mut left = Vec::new();
    for end in &head.extremities {
        if !covered.contains(&end.event_id) {
            left.push(end.no);
        } else if !pdu.prev_events().contains(&end.event_id) {
            drop.push(end.no);
        }
    }
    let all: Vec<EventNo> = head.extremities.iter().map(|end| end.no).collect();
    let mut ends = store.events_by_no(&all).await?;
    let met: HashSet<_> = ends.iter().map(|end| end.state_after).collect();
    ends.retain(|end| left.contains(&end.no));
    while ends.len() >= MAX_EXTREMITIES {
        let at = worst_of(&ends, pdu.sender().server_name());
        drop.push(ends.swap_remove(at).no);
    }
    let stay = ends.iter().map(|end| end.state_after);
    let meet: HashSet<_> = stay.chain([placed.after.snapshot]).collect();
    let forks = ends
        .iter()
        .filter_map(|end| end.state_after.map(Fork::Snapshot))
        .collect();
    Ok(Ends {
        forks,
        drop,
        as_before: met == meet,
    })
}

/// Which of too many loose ends goes: the oldest to come here of the server that has the most of them,
/// counting the new event's. Whoever makes too many forks undoes the own ones and nobody else's.
fn worst_of(ends: &[Arc<StoredEvent>], newest: &ServerName) -> usize {
    let mut count: HashMap<&ServerName, usize> = HashMap::from([(newest, 1)]);
    for end in ends {
        *count.entry(end.pdu.sender().server_name()).or_default() += 1;
    }
    let rank = |(_, end): &(usize, &Arc<StoredEvent>)| {
        let of_server = count.get(end.pdu.sender().server_name()).copied();
        (of_server, std::cmp::Reverse(end.order))
    };
    let worst = ends.iter().enumerate().max_by_key(rank);
    worst.map_or(0, |(at, _)| at)
}

/// The resolution of the other extremities' states with the state after the new event.
async fn merge(
    rooms: &Rooms,
    head: &RoomHead,
    placed: &Placed,
    mut forks: Vec<Fork>,
) -> Result<Resolved> {
    forks.push(match placed.after.snapshot {
        // Perhaps not stored yet; `placed` holds it.
        Some(snapshot) => Fork::Snapshot(snapshot),
        None => Fork::Given(BTreeMap::new()),
    });
    let pending = Some((placed.event.no, &placed.event.pdu));
    state_at::resolve(rooms, head, forks, pending).await
}
