//! The ends of what waits for a destination: the events of a room to which no other that waits leads. Upon each of them it can
//! ask for what is before it.
//!
//! What leads where is in the events themselves, so that a room is walked from its newest event that waits to the oldest,
//! others' events with it: one of ours that is followed by another server's, and that by one of ours, is no end. A fork
//! that nothing of ours has closed has several.

use std::collections::HashSet;

use rhizome_storage::{Error, EventNo, NewestOutbound, Outbound, Pos};
use ruma::{EventId, OwnedEventId, ServerName};

use super::run::Span;
use crate::Federation;

/// Events that are read at once.
const PIECE: usize = 200;
/// So many events of one room are walked,
const MOST_OF_ROOM: usize = 2_000;
/// and of all rooms together. Where that isn't enough, older ends are those that are the room's own still.
const MOST: usize = 20_000;

/// The ends of what waits in these rooms.
pub(super) async fn find(
    fed: &Federation,
    to: &ServerName,
    span: Span,
    rooms: &[NewestOutbound],
) -> Result<Vec<Outbound>, Error> {
    let mut ends = Vec::new();
    let mut left = MOST;
    let mut unfinished = Vec::new();
    for room in rooms {
        ends.push((room.pos, room.room, room.event));
        if room.waiting < 2 {
            continue;
        }
        let walked = walk(fed, to, span, room, &mut left, &mut ends).await?;
        if !walked {
            unfinished.push(*room);
        }
    }
    let places = loose(fed, &unfinished, span).await?;
    ends.extend(fed.store().outbound_at(to, &places).await?);
    Ok(ends)
}

/// Finds the ends of one room. `false` if not all that waits there was looked at.
async fn walk(
    fed: &Federation,
    to: &ServerName,
    (after, _): Span,
    room: &NewestOutbound,
    left: &mut usize,
    ends: &mut Vec<Outbound>,
) -> Result<bool, Error> {
    let mut graph = Graph::default();
    let mut upto = room.pos;
    let (mut waiting, mut of_room) = (room.waiting, MOST_OF_ROOM);
    while waiting > 0 {
        let piece = PIECE.min(*left).min(of_room);
        if piece == 0 {
            return Ok(false);
        }
        let store = fed.store();
        let walked = store
            .outbound_walk(to, room.room, (after, upto), piece)
            .await?;
        let Some(last) = walked.last() else {
            break;
        };
        upto = Pos(last.pos.0 - 1);
        *left -= walked.len().min(*left);
        of_room -= walked.len().min(of_room);
        let nos: Vec<EventNo> = walked.iter().map(|event| event.event).collect();
        let events = store.events_by_no(&nos).await?;
        for (place, event) in walked.iter().zip(&events) {
            let pdu = &event.pdu;
            if graph.is_end(pdu.event_id(), pdu.prev_events(), place.waits) {
                ends.push((place.pos, room.room, place.event));
            }
            waiting -= usize::from(place.waits).min(waiting);
        }
    }
    Ok(true)
}

/// Where in the span the ends of these rooms stand to which nothing leads at all.
async fn loose(
    fed: &Federation,
    rooms: &[NewestOutbound],
    (after, upto): Span,
) -> Result<Vec<Pos>, Error> {
    let rooms: Vec<_> = rooms.iter().map(|room| room.room).collect();
    let heads = fed.store().heads(&rooms).await?;
    let ends = heads.values().flat_map(|head| &head.extremities);
    let ends: Vec<EventNo> = ends.map(|end| end.no).collect();
    let events = fed.store().events_by_no(&ends).await?;
    let places = events.iter().filter_map(|event| event.pos());
    Ok(places.filter(|pos| *pos > after && *pos <= upto).collect())
}

/// A room's graph, as far as it has been walked: each event after those that follow it.
#[derive(Debug, Default)]
struct Graph {
    /// To these, which come yet, something that waits leads.
    led: HashSet<OwnedEventId>,
}

impl Graph {
    /// The next event. Whether it is an end of what waits.
    fn is_end(&mut self, id: &EventId, prevs: &[OwnedEventId], waits: bool) -> bool {
        let is_led = self.led.remove(id);
        if is_led || waits {
            self.led.extend(prevs.iter().cloned());
        }
        waits && !is_led
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(no: usize) -> OwnedEventId {
        format!("$e{no}").try_into().unwrap()
    }

    /// Events by number, each with those that it follows and whether it waits. Gives the ends, the newest first.
    fn ends(events: &[(Vec<usize>, bool)]) -> Vec<usize> {
        let mut graph = Graph::default();
        let newest_first = events.iter().enumerate().rev();
        let ends = newest_first.filter(|(no, (prevs, waits))| {
            let prevs: Vec<_> = prevs.iter().map(|prev| id(*prev)).collect();
            graph.is_end(&id(*no), &prevs, *waits)
        });
        ends.map(|(no, _)| no).collect()
    }

    #[test]
    fn of_a_line_the_newest_is_the_end_whoever_spoke_between() {
        let ours = |prev| (vec![prev], true);
        let theirs = |prev| (vec![prev], false);
        let events = [(vec![], false), ours(0), theirs(1), ours(2), theirs(3)];
        assert_eq!(ends(&events), [3]);
    }

    /// A message and a join that came through us, at the same place; another server's event follows both.
    #[test]
    fn a_fork_that_others_closed_has_two() {
        let events = [
            (vec![], false),
            (vec![0], true),
            (vec![0], true),
            (vec![1, 2], false),
        ];
        assert_eq!(ends(&events), [2, 1]);
        let mut closed = events.to_vec();
        closed.push((vec![3], true));
        assert_eq!(ends(&closed), [4]);
    }

    /// What is before an event, itself included.
    fn before(events: &[(Vec<usize>, bool)], of: usize) -> HashSet<usize> {
        let (mut found, mut left) = (HashSet::new(), vec![of]);
        while let Some(next) = left.pop() {
            if found.insert(next) {
                left.extend(&events[next].0);
            }
        }
        found
    }

    proptest! {
        /// All that waits is before an end, and no end is before another.
        #[test]
        fn each_end_is_needed_and_together_they_are_enough(
            drawn in prop::collection::vec(
                (prop::collection::vec(any::<prop::sample::Index>(), 1..4), any::<bool>()),
                1..60,
            ),
        ) {
            let events: Vec<(Vec<usize>, bool)> = drawn
                .iter()
                .enumerate()
                .map(|(no, (prevs, waits))| {
                    let prevs = prevs.iter().filter(|_| no > 0);
                    (prevs.map(|prev| prev.index(no)).collect(), *waits)
                })
                .collect();
            let ends = ends(&events);
            let mut reached = HashSet::new();
            for end in &ends {
                let of_end = before(&events, *end);
                prop_assert!(ends.iter().all(|other| other == end || !of_end.contains(other)));
                reached.extend(of_end);
            }
            for (no, (_, waits)) in events.iter().enumerate() {
                prop_assert!(!waits || reached.contains(&no));
            }
        }
    }
}
