//! What a server gets that was away while much was said: of each room the ends of what waits ([`super::ends`]), upon which it
//! asks for what is before them (`/get_missing_events`), instead of everything from the oldest on.
//!
//! That is a *run*. Up to where it goes is written down, and so is how far it has come ([`DestinationState`]); where it began
//! stays as what the destination has got until it is over. So a crash changes nothing about it, and what is passed over isn't
//! deleted. Which events are enough is looked up once it is known that the server is up. They go in the order of the log, among
//! all else that waits: the keys for a message are there before it. What comes after the run goes as ever.
//!
//! Not passed over is what can't be asked for, or may come too late by that:
//!
//! - what was said in rooms in which that server, or ours, isn't any more, or whose ACL denies it: we wouldn't answer. It is looked
//!   at when the run is planned, and at its end; what has been passed over by then is sent after all;
//! - what is before an event that the server refuses, or doesn't accept: nothing leads it there;
//! - sticky events: they must arrive while they are so.

use std::{collections::HashSet, sync::Arc};

use rhizome_storage::{DestinationState, Error, NewestOutbound, Pos, RoomNo, StoredEvent};
use ruma::ServerName;

use super::{
    batch::MAX_PDUS,
    ends,
    run::{Run, Span},
};
use crate::{Federation, acl};

/// Up to so many waiting events all are sent: four transactions, which are soon done. It is also as many as a server of
/// ours asks for before an event without leaving a gap (`fetch::gather`).
const FEW: usize = 4 * MAX_PDUS;

/// For a destination that was away and is up: if much waits for it, a run begins.
pub(super) async fn decide(
    fed: &Federation,
    to: &ServerName,
    stand: DestinationState,
) -> Result<DestinationState, Error> {
    let Some(head) = head(fed) else {
        return Ok(stand);
    };
    let span = (stand.reached(), head);
    if stand.runs() || fed.store().outbound_count(to, span, FEW + 1).await? <= FEW {
        return Ok(stand);
    }
    let stand = DestinationState {
        newest: head,
        ..stand
    };
    fed.sender().note(to, stand, stand);
    Ok(stand)
}

/// Up to where the log is known, if we are who sends what is in it.
fn head(fed: &Federation) -> Option<Pos> {
    let state = fed.sender().state();
    state.leads().then_some(state.looked_at)
}

/// Before each transaction of a run: finds out what is enough, and when it is over.
pub(super) async fn go_on(
    fed: &Federation,
    to: &ServerName,
    mut stand: DestinationState,
    run: &mut Run,
) -> Result<DestinationState, Error> {
    while stand.runs() && head(fed).is_some() {
        let at_end = stand.reached() >= stand.newest;
        if !at_end && !run.is_planned(stand.newest) {
            Box::pin(plan(fed, to, stand, run)).await?;
        } else if at_end && run.behind().is_none() {
            // What couldn't be asked for any more since it was planned?
            let span = (stand.sent, stand.newest);
            let rooms = fed.store().outbound_newest(to, span).await?;
            close(fed, to, stand, run, &rooms).await?;
        }
        if run.behind().is_some() {
            fed.sender().look_again_for_events(to);
        }
        if !at_end || run.behind().is_some() {
            break;
        }
        *run = Run::default();
        stand.sent = stand.reached();
        fed.sender().note(to, stand, stand);
        stand = decide(fed, to, stand).await?;
    }
    Ok(stand)
}

/// Looks up the events that are enough, of those that come yet.
async fn plan(
    fed: &Federation,
    to: &ServerName,
    stand: DestinationState,
    run: &mut Run,
) -> Result<(), Error> {
    let store = fed.store();
    let span = (stand.sent, stand.newest);
    let rooms = store.outbound_newest(to, span).await?;
    close(fed, to, stand, run, &rooms).await?;
    let left = (stand.reached(), stand.newest);
    let stays = store.outbound_that_stays(to, left, &run.whole()).await?;
    let open = rooms.into_iter();
    let open = open.filter(|newest| newest.pos > left.0 && !run.is_whole(newest.room));
    let open: Vec<NewestOutbound> = open.collect();
    let ends = ends::find(fed, to, span, &open).await?;
    run.plan(stand.newest, stays.into_iter().chain(ends));
    Ok(())
}

/// Of rooms in which that server can't ask us all is sent.
async fn close(
    fed: &Federation,
    to: &ServerName,
    stand: DestinationState,
    run: &mut Run,
    rooms: &[NewestOutbound],
) -> Result<(), Error> {
    let rooms: Vec<RoomNo> = rooms.iter().map(|newest| newest.room).collect();
    for room in closed(fed, to, &rooms).await? {
        run.make_whole(room, (stand.sent, stand.reached()));
    }
    Ok(())
}

/// Those of the rooms in which that server, or ours, isn't any more, or whose ACL denies it.
async fn closed(fed: &Federation, to: &ServerName, rooms: &[RoomNo]) -> Result<Vec<RoomNo>, Error> {
    let theirs = fed.store().rooms_of_server(to).await?;
    let theirs: HashSet<RoomNo> = theirs.into_iter().collect();
    let ours = fed.store().rooms_of_server(fed.server_name()).await?;
    let both: HashSet<RoomNo> = ours
        .into_iter()
        .filter(|room| theirs.contains(room))
        .collect();
    let (both, mut closed): (Vec<RoomNo>, Vec<RoomNo>) =
        rooms.iter().partition(|room| both.contains(*room));
    let heads = fed.store().heads(&both).await?;
    let heads: Vec<_> = heads.into_values().collect();
    let allowed = acl::allowed_in(fed, to, &heads).await?;
    let denied = heads.iter().zip(allowed).filter(|(_, allowed)| !allowed);
    closed.extend(denied.map(|(head, _)| head.room));
    Ok(closed)
}

/// The next of the events that are enough, of those with `after < pos ≤ upto`.
pub(super) async fn gather(
    fed: &Federation,
    run: &Run,
    after: Pos,
    most: usize,
) -> Result<Vec<Arc<StoredEvent>>, Error> {
    fed.store().events_by_no(&run.next(after, most)).await
}

/// The next of the events that were passed over and are sent after all, of one room.
pub(super) async fn passed_over(
    fed: &Federation,
    to: &ServerName,
    run: &mut Run,
    most: usize,
) -> Result<Vec<(Pos, Arc<StoredEvent>)>, Error> {
    let store = fed.store();
    while let Some((room, span)) = run.behind() {
        let found = store.outbound_of_room(to, room, span, most).await?;
        if found.is_empty() {
            run.nothing_behind(room);
            continue;
        }
        let nos: Vec<_> = found.iter().map(|(_, _, event)| *event).collect();
        let events = store.events_by_no(&nos).await?;
        let places = found.iter().map(|(pos, ..)| *pos);
        return Ok(places.zip(events).collect());
    }
    Ok(Vec::new())
}

/// Nothing leads the destination to what is before some events, with which, or before which, the run has come to `upto`: of
/// their rooms all is sent. `false` if that was so already.
pub(super) async fn leads_nowhere(
    fed: &Federation,
    to: &ServerName,
    (stand, upto): (DestinationState, Pos),
    run: &mut Run,
    rooms: &[RoomNo],
) -> Result<bool, Error> {
    let passed: Span = (stand.sent, upto);
    let new = rooms.iter().copied();
    let new: Vec<RoomNo> = new.filter(|room| run.make_whole(*room, passed)).collect();
    if new.is_empty() {
        return Ok(false);
    }
    run.hold(stand.reached());
    let left = (upto, stand.newest);
    for room in new {
        let store = fed.store();
        let rest = store.outbound_of_room(to, room, left, usize::MAX).await?;
        run.add(rest);
    }
    fed.sender().look_again_for_events(to);
    Ok(true)
}
