//! What a new event leaves of the room's forward extremities, and the state that those make together.
//!
//! The current state is the resolution of the states after the extremities. At a gap in the history somebody
//! tells us a state, and may lie: what we know otherwise must not fall out of that resolution on the strength
//! of what was told. That an extremity is an ancestor of others is therefore not enough to let it go:
//!
//! - the new event's state was computed from its own: it is one of the `prev_events` that we had, or lies behind
//!   refused events, each with the very state of what it follows; or
//! - it is an ancestor of what stays, and the current state is the same without it.
//!
//! An event that came late, after others that name it, is one more extremity in the place of what it follows,
//! unless it isn't needed by the second rule: then its descendants rest on what we know by now, which is
//! how it is among servers that don't lie. Whatever lies loose for nothing is tied up by our next event.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use rhizome_storage::{EventNo, Placement, RoomHead, Status, Store, StoredEvent};
use ruma::{OwnedEventId, ServerName};

use super::place::Placed;
use crate::{
    Rooms,
    error::Result,
    state::{self, Fork, Resolved},
};

/// More forward extremities than this are not kept. An event of ours ties up twenty.
const MAX_EXTREMITIES: usize = 50;
/// How many events are looked at behind refused ones. What isn't reached merely stays an extremity.
const MAX_WALK: usize = 100;

/// What becomes of the extremities.
#[derive(Default)]
pub(super) struct Ends {
    /// The current state that they make.
    pub(super) now: Resolved,
    /// Those that go.
    pub(super) drop: Vec<EventNo>,
    /// The new event, if it is one.
    pub(super) add: Vec<EventNo>,
    /// Whether something goes because the others make the same state without it.
    pub(super) compared: bool,
}

/// An extremity that the new event's state wasn't computed from.
struct Left {
    end: Arc<StoredEvent>,
    /// Whether it is an ancestor of the new event even so.
    behind: bool,
}

/// What a new event that the current state allows leaves of the room's extremities.
pub(super) async fn after(rooms: &Rooms, head: &RoomHead, placed: &Placed) -> Result<Ends> {
    let store = rooms.store();
    let event = &placed.event;
    let mut covered = covered(store, &placed.prevs).await?;
    let all: Vec<EventNo> = head.extremities.iter().map(|end| end.no).collect();
    let ends = store.events_by_no(&all).await?;
    let met: HashSet<_> = ends.iter().map(|end| end.state_after).collect();
    let mut drop = Vec::new();
    let mut left = Vec::new();
    for end in ends {
        match covered.remove(end.pdu.event_id()) {
            Some(Cover::Computed) => drop.push(end.no),
            Some(Cover::Behind) => left.push(Left { end, behind: true }),
            None => left.push(Left { end, behind: false }),
        }
    }
    while left.len() >= MAX_EXTREMITIES {
        let at = worst_of(&left, event.pdu.sender().server_name());
        drop.push(left.swap_remove(at).end.no);
    }
    let others = left.iter().any(|left| !left.behind);
    let late = match event.placement {
        Placement::Live => {
            others
                && store
                    .is_missing_prev(head.room, event.pdu.event_id())
                    .await?
        }
        // A hole in the history is filled from its end.
        _ if others => true,
        // Nothing lies beyond it.
        _ => {
            return Ok(Ends {
                now: Resolved::stored_or_empty(head.snapshot),
                ..Ends::default()
            });
        }
    };

    let stay = left.iter().map(|left| left.end.state_after);
    let meet: HashSet<_> = stay.chain([placed.after.snapshot]).collect();
    // The states that meet now may be those that met before: the event goes on from one of them and changes
    // nothing.
    let now = if met == meet {
        Resolved::stored_or_empty(head.snapshot)
    } else if left.is_empty() {
        placed.after.clone()
    } else {
        merge(rooms, head, placed, &left, true).await?
    };
    let mut ends = Ends {
        now,
        drop,
        add: vec![event.no],
        compared: false,
    };
    if late || left.iter().any(|left| left.behind) {
        let (behind, stay): (Vec<Left>, Vec<Left>) = left.into_iter().partition(|left| left.behind);
        let without = merge(rooms, head, placed, &stay, !late).await?;
        if without.is_same(store, &ends.now).await? {
            ends.drop.extend(behind.iter().map(|left| left.end.no));
            ends.compared = true;
            if late {
                ends.add.clear();
            }
        }
    }
    Ok(ends)
}

/// How an event is covered by a new one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cover {
    /// The new event's state was computed from its own.
    Computed,
    /// It is an ancestor.
    Behind,
}

/// The ancestors of a new event that it may take the place of: the `prev_events` whose states were known,
/// and what lies behind those that were refused.
async fn covered(
    store: &Store,
    prevs: &[Arc<StoredEvent>],
) -> Result<HashMap<OwnedEventId, Cover>> {
    let mut covered: HashMap<OwnedEventId, Cover> = HashMap::new();
    let mut walk: Vec<(Arc<StoredEvent>, Cover)> = Vec::new();
    for prev in prevs {
        covered.insert(prev.pdu.event_id().to_owned(), Cover::Computed);
        if prev.status != Status::Accepted {
            walk.push((prev.clone(), Cover::Computed));
        }
    }
    let mut steps = 0;
    while let Some((refused, cover)) = walk.pop() {
        steps += 1;
        if steps > MAX_WALK {
            break;
        }
        let ids = refused.pdu.prev_events();
        let behind = store.events(ids).await?;
        // The state before it may have been told, when these were unknown.
        let same = |prev: &Arc<StoredEvent>| {
            prev.state_after.is_some() && prev.state_after == refused.state_before
        };
        let cover = match cover {
            Cover::Computed if behind.len() == ids.len() && behind.iter().all(same) => cover,
            _ => Cover::Behind,
        };
        for id in ids {
            let known = covered.entry(id.clone()).or_insert(cover);
            if cover == Cover::Computed {
                *known = cover;
            }
        }
        let refused = behind
            .into_iter()
            .filter(|prev| prev.status != Status::Accepted);
        walk.extend(refused.map(|prev| (prev, cover)));
    }
    Ok(covered)
}

/// Which of too many loose ends goes: the oldest to come here of the server that has the most of them,
/// counting the new event's. Whoever makes too many forks undoes the own ones and nobody else's.
fn worst_of(ends: &[Left], newest: &ServerName) -> usize {
    let mut count: HashMap<&ServerName, usize> = HashMap::from([(newest, 1)]);
    for Left { end, .. } in ends {
        *count.entry(end.pdu.sender().server_name()).or_default() += 1;
    }
    let rank = |(_, Left { end, .. }): &(usize, &Left)| {
        let of_server = count.get(end.pdu.sender().server_name()).copied();
        (of_server, std::cmp::Reverse(end.order))
    };
    let worst = ends.iter().enumerate().max_by_key(rank);
    worst.map_or(0, |(at, _)| at)
}

/// The resolution of these extremities' states, with the state after the new event or without it.
async fn merge(
    rooms: &Rooms,
    head: &RoomHead,
    placed: &Placed,
    left: &[Left],
    with: bool,
) -> Result<Resolved> {
    let states = left.iter().filter_map(|left| left.end.state_after);
    let mut forks: Vec<Fork> = states.map(Fork::Snapshot).collect();
    if with {
        forks.push(match placed.after.snapshot {
            // Perhaps not stored yet; `placed` holds it.
            Some(snapshot) => Fork::Snapshot(snapshot),
            None => Fork::Given(BTreeMap::new()),
        });
    }
    let pending = Some((placed.event.no, &placed.event.pdu));
    state::resolve(rooms, head, forks, pending).await
}
