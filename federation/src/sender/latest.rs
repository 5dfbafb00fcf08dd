//! What a server gets that was away while much was said: of each room the newest event, upon which it asks for those
//! before it (`/get_missing_events`), instead of everything from the oldest on.
//!
//! Which events these are is looked up once for all that waits, up to a position that is written down together with the
//! cursor ([`DestinationState::newest`]), so a crash changes nothing about it. They go in the order of the log, among all
//! else that waits. So the cursor means what it always does: up to there everything has been delivered, or follows from
//! what comes later; and the keys for a message are there before it. What comes after that position goes as ever.
//!
//! Not left out is what can't be asked for, or may come too late by that:
//!
//! - what was said in rooms in which that server, or ours, isn't any more: we wouldn't answer;
//! - each end of a room's graph: from another event nothing leads to it (a join that came through us beside a message);
//! - sticky events: they must arrive while they are so.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use rhizome_storage::{DestinationState, Error, EventNo, Pos, RoomNo, StoredEvent};
use ruma::ServerName;

use super::batch::MAX_PDUS;
use crate::Federation;

/// Up to so many waiting events all are sent: four transactions, which are soon done. It is also as many as a server of
/// ours asks for before an event without leaving a gap (`fetch::gather`).
const FEW: usize = 4 * MAX_PDUS;

/// The events that are enough, up to a position.
#[derive(Debug, Default)]
pub(super) struct Latest {
    upto: Pos,
    /// Ascending.
    events: Vec<(Pos, EventNo)>,
}

impl Latest {
    fn next(&self, after: Pos, most: usize) -> Vec<EventNo> {
        let first = self.events.partition_point(|(pos, _)| *pos <= after);
        let next = self.events.iter().skip(first).take(most);
        next.map(|(_, event)| *event).collect()
    }
}

/// For a destination that failed last: if much waits for it, the newest of each room are enough.
pub(super) async fn decide(
    fed: &Federation,
    to: &ServerName,
    stand: DestinationState,
) -> Result<DestinationState, Error> {
    let head = {
        let state = fed.sender().state();
        if !state.leads() {
            return Ok(stand);
        }
        state.looked_at
    };
    let span = (stand.sent, head);
    if fed.store().outbound_count(to, span, FEW + 1).await? <= FEW {
        return Ok(stand);
    }
    Ok(DestinationState {
        newest: stand.newest.max(head),
        ..stand
    })
}

/// The next of these events with `after < pos ≤ upto`.
pub(super) async fn gather(
    fed: &Federation,
    to: &ServerName,
    latest: &mut Latest,
    (after, upto): (Pos, Pos),
    most: usize,
) -> Result<Vec<Arc<StoredEvent>>, Error> {
    if latest.upto != upto {
        let events = Box::pin(look_up(fed, to, (after, upto))).await?;
        *latest = Latest { upto, events };
    }
    let next = latest.next(after, most);
    fed.store().events_by_no(&next).await
}

async fn look_up(
    fed: &Federation,
    to: &ServerName,
    span: (Pos, Pos),
) -> Result<Vec<(Pos, EventNo)>, Error> {
    let store = fed.store();
    let newest = store.outbound_newest(to, span).await?;
    let rooms: Vec<RoomNo> = newest.iter().map(|(_, room, _)| *room).collect();
    let left = left(fed, to, &rooms).await?;
    let stays = store.outbound_that_stays(to, span, &left).await?;
    let ends = ends(fed, &rooms, span).await?;
    let ends = store.outbound_at(to, &ends).await?;
    let all = newest.into_iter().chain(stays).chain(ends);
    let all: BTreeSet<_> = all.map(|(pos, _, event)| (pos, event)).collect();
    Ok(all.into_iter().collect())
}

/// Those of the rooms in which that server, or ours, isn't any more.
async fn left(fed: &Federation, to: &ServerName, rooms: &[RoomNo]) -> Result<Vec<RoomNo>, Error> {
    let theirs = fed.store().rooms_of_server(to).await?;
    let theirs: HashSet<RoomNo> = theirs.into_iter().collect();
    let ours = fed.store().rooms_of_server(fed.server_name()).await?;
    let both: HashSet<RoomNo> = ours
        .into_iter()
        .filter(|room| theirs.contains(room))
        .collect();
    let left = rooms.iter().filter(|room| !both.contains(*room));
    Ok(left.copied().collect())
}

/// Where the ends of those rooms' graphs stand that have several, as far as that is in the span.
async fn ends(
    fed: &Federation,
    rooms: &[RoomNo],
    (after, upto): (Pos, Pos),
) -> Result<Vec<Pos>, Error> {
    let heads = fed.store().heads(rooms).await?;
    let forked = heads.values().filter(|head| head.extremities.len() > 1);
    let ends: Vec<EventNo> = forked
        .flat_map(|head| head.extremities.iter().map(|end| end.no))
        .collect();
    let events = fed.store().events_by_no(&ends).await?;
    let places = events.iter().filter_map(|event| event.pos());
    Ok(places.filter(|pos| *pos > after && *pos <= upto).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_next_follows_the_cursor() {
        let latest = Latest {
            upto: Pos(90),
            events: [(3, 30), (7, 70), (80, 800)]
                .map(|(pos, no)| (Pos(pos), EventNo(no)))
                .to_vec(),
        };
        let next = |after, most| latest.next(Pos(after), most);
        assert_eq!(next(0, 2), [EventNo(30), EventNo(70)]);
        assert_eq!(next(2, 9).len(), 3);
        assert_eq!(next(3, 9), [EventNo(70), EventNo(800)]);
        assert_eq!(next(7, 1), [EventNo(800)]);
        assert!(next(80, 9).is_empty());
    }
}
