//! An event that is known already comes as news.
//!
//! Whoever gives us history chooses how much of it: something that has only just happened may come so, in
//! the page of a server that would rather have it forgotten, with a state before it of that server's choice.
//! When it then comes from a server that sends it as news, the current state takes notice of it. If it was
//! rejected for a state that was told, it is decided once more.

use std::{collections::HashSet, sync::Arc};

use rhizome_protocol::Pdu;
use rhizome_storage::{
    CommitError, NewEvent, Placement, Pos, RoomHead, RoomWrite, SnapshotNo, Status, StoredEvent,
};

use super::{How, LIVE, Received, decide, only, place::Placed};
use crate::{
    Rooms,
    error::Result,
    policy_server::Asked,
    send::{commit_error, known_room, queue::Warm, tries::Tries},
    state::{self, Fork, Resolved},
};

/// An event that is known came again, live.
pub(super) async fn known(rooms: &Rooms, head: &RoomHead, pdu: &Arc<Pdu>) -> Result<Received> {
    let Some(known) = rooms.store().event(pdu.event_id()).await? else {
        return Ok(Received::Known);
    };
    let is_history = known.placement == Placement::Backfilled && known.status == Status::Accepted;
    if known.room != head.room || !is_history || is_before_us(rooms, head, &known).await? {
        return Ok(Received::Known);
    }
    let placed = Placed {
        event: NewEvent {
            placement: known.placement,
            depth: known.depth,
            state_before: known.state_before,
            state_after: known.state_after,
            ..NewEvent::new(known.no, known.pdu.clone())
        },
        // It takes nobody's place: nothing says that its state was computed from what it follows.
        prevs: Vec::new(),
        before: Resolved::stored_or_empty(known.state_before),
        after: Resolved::stored_or_empty(known.state_after),
        partial: head.partial,
        learnt: Vec::new(),
    };
    let how = How {
        placement: known.placement,
        ..LIVE
    };
    let queue = rooms.queues().of(head.room);
    let mut warm = queue.enter().await;
    let mut tries = Tries::new(rooms, head.room);
    while tries.again().await? {
        let head = known_room(rooms, pdu.room_id()).await?;
        // What has been decided again meanwhile isn't what it was.
        let is_same = head.partial == placed.partial;
        if !is_same || head.extremities.iter().any(|end| end.no == known.no) {
            break;
        }
        let asked = Asked::Elsewhere;
        let decided = decide::decide(rooms, &head, &known.pdu, &placed, (how, &asked)).await?;
        if decided.ends.add.is_empty() {
            break;
        }
        let moves = decided.current.is_some();
        let write = RoomWrite {
            room: head.room,
            expect: Some(head.state_version),
            snapshots: decided.snapshots,
            current: decided.current,
            drop_extremities: decided.ends.drop,
            add_extremities: decided.ends.add,
            ..RoomWrite::default()
        };
        match tries.commit(only(write)).await {
            Ok(_) => {
                if moves {
                    *warm = Warm::default();
                }
                break;
            }
            Err(CommitError::StateMoved { .. } | CommitError::TurnOver) => {}
            Err(error) => return Err(commit_error(error)),
        }
    }
    Ok(Received::Known)
}

/// Whether an event was rejected for a state that isn't the one that comes out of what we know now.
pub(super) async fn is_rejected_as_told(
    rooms: &Rooms,
    head: &RoomHead,
    pdu: &Arc<Pdu>,
) -> Result<bool> {
    let store = rooms.store();
    let Some(known) = store.event(pdu.event_id()).await? else {
        return Ok(false);
    };
    if known.room != head.room || known.status != Status::Rejected {
        return Ok(false);
    }
    let ids = known.pdu.prev_events();
    let mut prevs = store.events(ids).await?;
    // An event may name one twice.
    let missing = prevs.len() < ids.iter().collect::<HashSet<_>>().len();
    prevs.retain(|prev| prev.room == head.room);
    if missing || prevs.iter().any(|prev| prev.state_after.is_none()) {
        // Nobody could say what lies before it, so somebody told.
        return Ok(true);
    }
    let states: Vec<SnapshotNo> = prevs.iter().filter_map(|prev| prev.state_after).collect();
    if states
        .iter()
        .all(|state| Some(*state) == known.state_before)
    {
        return Ok(false);
    }
    let forks = states.into_iter().map(Fork::Snapshot).collect();
    let now = state::resolve(rooms, head, forks, None).await?;
    let then = Resolved::stored_or_empty(known.state_before);
    Ok(!now.is_same(store, &then).await?)
}

/// Whether it lies before the first event that was news here, by what it says itself: where it stands in the
/// history is up to those that follow it.
async fn is_before_us(rooms: &Rooms, head: &RoomHead, event: &StoredEvent) -> Result<bool> {
    let store = rooms.store();
    let upto = store.log().head();
    let first = store.live_after(head.room, Pos(0), upto, 1).await?;
    Ok(first
        .first()
        .is_none_or(|first| event.pdu.depth() < first.depth))
}
