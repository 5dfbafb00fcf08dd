//! Completes one room: gets the state before the join from a server that is trusted with it, and has all decided again.

use std::{collections::HashMap, sync::atomic::AtomicBool, time::Duration};

use rhizome_protocol::resolve::StateMap;
use rhizome_rooms::{Error, access, partial};
use rhizome_storage::{PartialRoom, RoomHead, SnapshotNo, StoredEvent};
use ruma::OwnedEventId;
use tokio::time::timeout;

use crate::{
    Federation,
    fetch::gather::{self, Unfit},
};

/// The longest that one server is given. Who is slower can't keep the room from being completed by another.
const TIME: Duration = Duration::from_mins(10);
/// Others are asked for states at gaps, all together, no longer than so many requests may take. They are servers of any members,
/// who choose how many gaps there are, and how slow they are: they can't keep the room from being completed.
const TIMES_AT_GAPS: u32 = 4;
/// Where nobody of ours is any more, it is tried again after so many times the longest pause; and also …
const SELDOM: u32 = 24;
/// … where so many tries were in vain already and a server has told ever new events that make no state: those are kept.
const ENOUGH: u32 = 3;
/// At so many gaps in what has come meanwhile others are asked for the state; before that the state before the join stands in.
const MAX_GAPS: usize = 20;

/// Asks one server after the other. If none helps, the room is put off.
///
/// # Errors
/// The database's.
pub(super) async fn attempt(
    fed: &Federation,
    room: PartialRoom,
) -> Result<(), rhizome_storage::Error> {
    let store = fed.store();
    let Some(head) = store.room_by_no(room.room).await? else {
        return Ok(());
    };
    if head.partial != Some(room.join) {
        return Ok(());
    }
    let mut costs = false;
    for (at, server) in room.ask.iter().enumerate() {
        // Whoever left and came back by another server isn't to wait until these have been asked.
        let now = store.room_by_no(room.room).await?;
        if now.is_none_or(|head| head.partial != Some(room.join)) {
            return Ok(());
        }
        let from = gather::Source {
            server,
            is_giver: at == 0,
            gave: AtomicBool::new(false),
        };
        let why = match Box::pin(through(fed, &head, &from)).await {
            Ok(()) => {
                let seconds = (store.clock().now_ms() - room.joined_ms) / 1_000;
                tracing::info!(room = %head.room_id, %server, seconds, "all members of a room are known");
                store.inbox_wake(&head.room_id).await?;
                fed.inbox().notify_one();
                return Ok(());
            }
            // It may be for this room alone: the others go on, and it comes again later. Should the database be gone, putting it
            // off tells.
            Err(Unfit::Here(Error::Store(error))) => {
                tracing::error!(room = %head.room_id, %error, "a room can't be completed");
                break;
            }
            Err(Unfit::Here(Error::Contended)) => "others kept changing the room".to_owned(),
            Err(error) => {
                costs |= from.gave.into_inner();
                error.to_string()
            }
        };
        tracing::info!(room = %head.room_id, %server, why, "a server doesn't tell the members of a room");
    }
    let config = fed.config();
    let doubled = config.retry_min.saturating_mul(1 << room.tries.min(16));
    let mut pause = doubled.min(config.retry_max);
    let is_in = access::server_in_room(store, &head.room_id, fed.server_name());
    if !is_in.await.map_err(own)? || costs && room.tries >= ENOUGH {
        // Whoever comes back wants it at once. But whoever made the last of us leave may have had no right to.
        pause = config.retry_max.saturating_mul(SELDOM);
    }
    put_off(fed, &room, room.tries.saturating_add(1), pause).await
}

async fn put_off(
    fed: &Federation,
    room: &PartialRoom,
    tries: u32,
    pause: Duration,
) -> Result<(), rhizome_storage::Error> {
    let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
    let until = fed.store().clock().now_ms().saturating_add(pause);
    fed.store().put_off_partial(room, tries, until).await
}

/// What isn't the database's own is a bug here, and no reason to stop.
fn own(error: Error) -> rhizome_storage::Error {
    match error {
        Error::Store(error) => error,
        other => rhizome_storage::Error::Failed(other.to_string()),
    }
}

async fn through(
    fed: &Federation,
    head: &RoomHead,
    from: &gather::Source<'_>,
) -> Result<(), Unfit> {
    let (store, rooms) = (fed.store(), fed.rooms());
    let join = match head.partial {
        Some(join) => store.event_by_no(join).await.map_err(Error::from)?,
        None => return Ok(()),
    };
    let Some(join) = join else {
        return Err(Unfit::Untold("the join isn't stored".to_owned()));
    };
    let told = gather::state_before(fed, from, head, &join.pdu);
    let told = timeout(TIME, Box::pin(told)).await;
    let told = told.map_err(|_| Unfit::Untold("it took too long".to_owned()))??;
    let full = partial::full_state(rooms, head.room, told).await?;
    let mut replay = partial::Replay::new(rooms, head.room, full).await?;
    let time = fed.config().request_timeout.saturating_mul(TIMES_AT_GAPS);
    match timeout(time, Box::pin(at_gaps(fed, head, &mut replay, full))).await {
        Ok(asked) => asked?,
        Err(_) => {
            tracing::info!(room = %head.room_id, "no more states at gaps are asked for");
        }
    }
    // How much there is to decide is up to others as well: no time limits that.
    Box::pin(replay.complete()).await?;
    Ok(())
}

/// Asks for states at gaps, where the one before the join stands in otherwise.
async fn at_gaps(
    fed: &Federation,
    head: &RoomHead,
    replay: &mut partial::Replay,
    full: SnapshotNo,
) -> Result<(), Error> {
    for (no, unknown) in replay.gaps().into_iter().take(MAX_GAPS) {
        let Some(event) = fed.store().event_by_no(no).await? else {
            continue;
        };
        for (prev, after) in at_gap(fed, head, &event, &unknown, full).await? {
            replay.tell(prev, after);
        }
    }
    Ok(())
}

/// The states after these prevs of an event, as far as others tell any that can be taken.
async fn at_gap(
    fed: &Federation,
    head: &RoomHead,
    event: &StoredEvent,
    unknown: &[OwnedEventId],
    full: SnapshotNo,
) -> Result<HashMap<OwnedEventId, SnapshotNo>, Error> {
    let told = gather::at_gap_before(fed, head, event, unknown).await?;
    let mut states = HashMap::with_capacity(told.len());
    for (prev, state) in told {
        match stored(fed, head, event, full, state).await {
            Ok(after) => drop(states.insert(prev, after)),
            Err(Error::Store(error)) => return Err(error.into()),
            Err(error) => {
                tracing::info!(room = %head.room_id, %prev, %error, "a state at a gap can't be taken");
            }
        }
    }
    Ok(states)
}

async fn stored(
    fed: &Federation,
    head: &RoomHead,
    event: &StoredEvent,
    full: SnapshotNo,
    state: StateMap,
) -> Result<SnapshotNo, Error> {
    partial::told_state(fed.rooms(), head.room, &event.pdu, full, &state).await
}
