//! Reverse topological power ordering.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet},
};

use ruma::{EventId, OwnedEventId};

use super::{
    Events, Missing,
    graph::{Graph, Node, none_missing},
};
use crate::{
    RoomRules,
    power::{Level, Power},
    topological::parents_first,
};

/// Reverse topological power ordering: auth events first; among those that may come next, the sender
/// with the most power, then the earlier timestamp, then the smaller event id.
pub(super) fn by_power(
    graph: &Graph,
    events: &impl Events,
    rules: &RoomRules,
    set: &HashSet<Node>,
) -> Result<Vec<Node>, Missing> {
    type Rank<'a> = (Reverse<Level>, i64, &'a EventId);

    let mut missing = BTreeSet::new();
    let mut ranks: HashMap<Node, Rank<'_>> = HashMap::with_capacity(set.len());
    for &node in set {
        let event = graph.event(node);
        let level = sender_level(graph, events, rules, node, &mut missing);
        ranks.insert(
            node,
            (Reverse(level), event.origin_server_ts(), event.event_id()),
        );
    }
    none_missing(missing)?;

    // Only events in a cycle, which hashes rule out, could be left over: they are never applied.
    let auth = |node| graph.auth(node).iter().copied();
    Ok(parents_first(
        set.iter().copied(),
        |node| node,
        auth,
        |node| ranks[&node],
    ))
}

/// The power level of an event's sender by that event's own auth events.
fn sender_level(
    graph: &Graph,
    events: &impl Events,
    rules: &RoomRules,
    node: Node,
    missing: &mut BTreeSet<OwnedEventId>,
) -> Level {
    let event = graph.event(node);
    let named = |kind: &str| {
        graph
            .auth(node)
            .iter()
            .map(|&auth| graph.event(auth))
            .find(|auth| auth.is_state(kind, ""))
    };
    let create = match event.implied_create() {
        Some(id) => {
            let create = graph
                .find(&id)
                .map(|node| graph.event(node).clone())
                .or_else(|| events.event(&id));
            if create.is_none() {
                missing.insert(id);
            }
            create
        }
        None if event.is_state("m.room.create", "") => Some(event.clone()),
        None => named("m.room.create").cloned(),
    };
    let levels = named("m.room.power_levels").map(|levels| levels.content());
    Power::new(rules, create.as_deref(), levels).user(event.sender())
}
