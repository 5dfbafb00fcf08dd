//! Mainline ordering.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId};

use super::{
    Events, Missing,
    graph::{Graph, Node, none_missing},
};
use crate::Pdu;

/// Mainline ordering based on the power levels event `levels`: events that rest on the oldest power
/// levels first, then by timestamp, then by event id.
pub(super) fn by_mainline(
    graph: &Graph,
    events: &impl Events,
    levels: Option<&EventId>,
    mut nodes: Vec<Node>,
) -> Result<Vec<Node>, Missing> {
    let mut walk = Walk {
        graph,
        events,
        missing: BTreeSet::new(),
    };
    let rests_on: Vec<Option<Arc<Pdu>>> = nodes
        .iter()
        .map(|&node| walk.power_levels_before(graph.event(node)))
        .collect();
    let id_of = |event: &Option<Arc<Pdu>>| event.as_ref().map(|event| event.event_id().to_owned());
    // Where all rest on the same power levels, it doesn't matter how far from the newest those are.
    let differ = rests_on
        .windows(2)
        .any(|pair| id_of(&pair[0]) != id_of(&pair[1]));
    let mut position_of: HashMap<Node, usize> = HashMap::with_capacity(nodes.len());
    if differ {
        let mut mainline = Mainline::new(levels.and_then(|id| walk.event(id)));
        for (&node, rests_on) in nodes.iter().zip(rests_on) {
            position_of.insert(node, mainline.position(rests_on, &mut walk));
        }
    }
    none_missing(walk.missing)?;

    nodes.sort_unstable_by_key(|node| {
        let event = graph.event(*node);
        (
            Reverse(position_of.get(node).copied()),
            event.origin_server_ts(),
            event.event_id(),
        )
    });
    Ok(nodes)
}

/// Stands for the position of what never meets the mainline.
const NOWHERE: usize = usize::MAX;

/// The power levels events that led to the newest, found no further back than it takes.
struct Mainline {
    /// Of those on the mainline their distance from the newest, and the same of those whose own line is
    /// known to meet it there.
    positions: HashMap<OwnedEventId, usize>,
    length: usize,
    next: Option<Arc<Pdu>>,
}

impl Mainline {
    fn new(newest: Option<Arc<Pdu>>) -> Self {
        Self {
            positions: HashMap::new(),
            length: 0,
            next: newest,
        }
    }

    /// Goes back one event on the mainline, and gives that.
    fn extend(&mut self, walk: &mut Walk<'_, impl Events>) -> Option<OwnedEventId> {
        let event = self.next.take()?;
        let id = event.event_id().to_owned();
        // Lines off the mainline are entered only once they have met it, so this one is new, save in
        // a circle.
        if self.positions.contains_key(&id) {
            return None;
        }
        self.positions.insert(id.clone(), self.length);
        self.length += 1;
        self.next = walk.power_levels_before(&event);
        Some(id)
    }

    /// Where the line of power levels that begins with `line` meets the mainline. Both are followed in
    /// step, so that neither is followed further than to where they meet.
    fn position(&mut self, line: Option<Arc<Pdu>>, walk: &mut Walk<'_, impl Events>) -> usize {
        let mut passed: HashMap<OwnedEventId, usize> = HashMap::new();
        let mut next = line;
        let (position, meets_at) = loop {
            if let Some(event) = next.take() {
                if let Some(&known) = self.positions.get(event.event_id()) {
                    break (known, usize::MAX);
                }
                let at = passed.len();
                if passed.insert(event.event_id().to_owned(), at).is_none() {
                    next = walk.power_levels_before(&event);
                }
            }
            match self.extend(walk) {
                Some(id) => {
                    if let Some(&at) = passed.get(&id) {
                        break (self.length - 1, at);
                    }
                }
                None if next.is_none() => break (NOWHERE, usize::MAX),
                None => {}
            }
        };
        // All on the way there meet it there.
        for (id, at) in passed {
            if at < meets_at {
                self.positions.insert(id, position);
            }
        }
        position
    }
}

/// Finds events in the graph or else outside of it, and collects those that are nowhere.
struct Walk<'a, E> {
    graph: &'a Graph,
    events: &'a E,
    missing: BTreeSet<OwnedEventId>,
}

impl<E: Events> Walk<'_, E> {
    fn event(&mut self, id: &EventId) -> Option<Arc<Pdu>> {
        let known = self
            .graph
            .find(id)
            .map(|node| self.graph.event(node).clone());
        let event = known.or_else(|| self.events.event(id));
        if event.is_none() {
            self.missing.insert(id.to_owned());
        }
        event
    }

    /// The power levels event among an event's auth events. All of these are looked at, so that all
    /// that are missing are named.
    fn power_levels_before(&mut self, event: &Pdu) -> Option<Arc<Pdu>> {
        let mut found = None;
        for id in event.auth_events() {
            if let Some(event) = self.event(id)
                && found.is_none()
                && event.is_state("m.room.power_levels", "")
            {
                found = Some(event);
            }
        }
        found
    }
}
