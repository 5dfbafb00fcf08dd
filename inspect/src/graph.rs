//! The events around some of a room's, and how they follow one another.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use rhizome_storage::{
    Direction, EventNo, HistoryToken, OutsideToken, Pos, RoomNo, Store, StoredEvent,
};
use ruma::{EventId, OwnedEventId};
use serde::Serialize;

use crate::EventLine;
use crate::Result;

/// More events than this are not shown in either direction.
const MAX_EVENTS: usize = 300;
/// Children are found by reading on in the history: how many events at most.
const MAX_SCAN: usize = 1_000;

/// A part of a room's graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// Its events, oldest first.
    pub nodes: Vec<Node>,
    /// Whether there are more within reach than are shown.
    pub cut: bool,
}

/// An event of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// The event.
    #[serde(flatten)]
    pub line: EventLine,
    /// Whether it is what was asked for.
    pub asked: bool,
    /// What it follows, stored or not.
    pub prev_events: Vec<OwnedEventId>,
    /// What it rests on.
    pub auth_events: Vec<OwnedEventId>,
}

/// What is at most `generations` away from `centre`, before and after.
pub async fn around(
    store: &Store,
    room: RoomNo,
    centre: &[Arc<StoredEvent>],
    generations: usize,
) -> Result<Graph> {
    let mut found: BTreeMap<EventNo, Arc<StoredEvent>> = centre
        .iter()
        .map(|event| (event.no, event.clone()))
        .collect();
    let mut cut = before(store, room, centre, generations, &mut found).await?;
    cut |= after(store, room, centre, generations, &mut found).await?;
    let asked: HashSet<EventNo> = centre.iter().map(|event| event.no).collect();
    let mut events: Vec<Arc<StoredEvent>> = found.into_values().collect();
    events.sort_by_key(|event| (event.depth, event.order.unwrap_or(i64::MAX), event.no));
    let node = |event: Arc<StoredEvent>| Node {
        line: EventLine::of(&event),
        asked: asked.contains(&event.no),
        prev_events: event.pdu.prev_events().to_vec(),
        auth_events: event.pdu.auth_events().to_vec(),
    };
    Ok(Graph {
        nodes: events.into_iter().map(node).collect(),
        cut,
    })
}

/// Ancestors, generation by generation. Says whether some were left out.
async fn before(
    store: &Store,
    room: RoomNo,
    centre: &[Arc<StoredEvent>],
    generations: usize,
    found: &mut BTreeMap<EventNo, Arc<StoredEvent>>,
) -> Result<bool> {
    let mut generation = centre.to_vec();
    let mut count = 0;
    for _ in 0..generations {
        let prevs: BTreeSet<OwnedEventId> = generation
            .iter()
            .flat_map(|event| event.pdu.prev_events().iter().cloned())
            .collect();
        let prevs: Vec<OwnedEventId> = prevs.into_iter().collect();
        generation = store.events(&prevs).await?;
        generation.retain(|event| event.room == room && !found.contains_key(&event.no));
        for event in &generation {
            if count == MAX_EVENTS {
                return Ok(true);
            }
            count += 1;
            found.insert(event.no, event.clone());
        }
    }
    Ok(false)
}

/// Descendants: what follows in the history, as far as it descends. Says whether some were left out.
async fn after(
    store: &Store,
    room: RoomNo,
    centre: &[Arc<StoredEvent>],
    generations: usize,
    found: &mut BTreeMap<EventNo, Arc<StoredEvent>>,
) -> Result<bool> {
    let Some(depth) = centre.iter().map(|event| event.depth).min() else {
        return Ok(false);
    };
    let mut distance: HashMap<OwnedEventId, usize> = centre
        .iter()
        .map(|event| (event.pdu.event_id().to_owned(), 0))
        .collect();
    let (candidates, mut cut) = later(store, room, depth).await?;
    let mut count = 0;
    for event in candidates {
        let nearest = event.pdu.prev_events().iter();
        let nearest = nearest.filter_map(|id| distance.get::<EventId>(id)).min();
        let Some(steps) = nearest.map(|steps| steps + 1) else {
            continue;
        };
        if steps > generations || distance.contains_key(event.pdu.event_id()) {
            continue;
        }
        if count == MAX_EVENTS {
            cut = true;
            break;
        }
        count += 1;
        distance.insert(event.pdu.event_id().to_owned(), steps);
        found.insert(event.no, event);
    }
    Ok(cut)
}

/// The events from a depth on, in the history and outside of it, by depth; and whether there are more.
async fn later(store: &Store, room: RoomNo, depth: i64) -> Result<(Vec<Arc<StoredEvent>>, bool)> {
    let from = HistoryToken {
        depth,
        order: i64::MIN,
    };
    let upto = Pos(i64::MAX);
    let mut events = store
        .history(room, from, Direction::Forward, MAX_SCAN, upto)
        .await?;
    let from = OutsideToken {
        depth,
        ..OutsideToken::START
    };
    let outside = store.events_outside(room, from, MAX_SCAN).await?;
    let cut = events.len() == MAX_SCAN || outside.len() == MAX_SCAN;
    events.extend(outside);
    events.sort_by_key(|event| (event.depth, event.order.unwrap_or(i64::MAX), event.no));
    Ok((events, cut))
}
