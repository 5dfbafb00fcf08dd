//! Merging whole states: finds out how they differ, then has that settled.

use std::collections::HashSet;

use super::{
    Conflict, Events, Missing, StateMap,
    graph::{Graph, Node, Reach},
    settle,
};
use crate::{RoomRules, StateKey, rules::Resolution};

/// Merges the states of `forks` into one. The order of `forks` doesn't matter.
///
/// This is the way of the textbook: it looks at whole states, and walks the auth chains of all of it if
/// it must. What the forks agree about is returned as it is, also where no event is at hand. Every entry of
/// the others, and all that is reachable from those by `auth_events`, must be in `events`; the entries
/// that they agree about only as far as the auth rules or the auth difference look at them. [`settle`]
/// comes to the same from the difference alone.
pub fn resolve(
    rules: &RoomRules,
    forks: &[StateMap],
    events: &impl Events,
) -> Result<StateMap, Missing> {
    let (agreed, forks) = split(forks);
    let mut conflict = Conflict {
        forks,
        agreed,
        ..Conflict::default()
    };
    if conflict.forks.iter().any(|fork| !fork.is_empty()) {
        if rules.resolution != Resolution::V1 {
            widen(rules, &mut conflict, events)?;
        }
        let settled = settle(rules, &conflict, events)?;
        conflict.agreed.extend(settled);
    }
    Ok(conflict.agreed)
}

/// Finds the auth difference and the conflicted state subgraph by walking the auth chains.
fn widen(rules: &RoomRules, conflict: &mut Conflict, events: &impl Events) -> Result<(), Missing> {
    let conflicted = conflict.forks.iter().flat_map(StateMap::values);
    let mut graph = Graph::load(events, conflicted, Reach::Everything)?;
    let difference = auth_difference(&mut graph, conflict, events)?;
    let ids = |nodes: &mut dyn Iterator<Item = Node>| {
        nodes
            .map(|node| graph.event(node).event_id().to_owned())
            .collect()
    };
    if rules.resolution == Resolution::V2_1 {
        let ends: HashSet<Node> = conflict
            .forks
            .iter()
            .flat_map(StateMap::values)
            .filter_map(|id| graph.find(id))
            .collect();
        let ends: Vec<Node> = ends.into_iter().collect();
        conflict.subgraph = ids(&mut graph.between(&ends).into_iter());
    }
    conflict.auth_difference = ids(&mut difference.into_iter());
    Ok(())
}

/// The unconflicted state map, and what each fork has for the other keys.
fn split(forks: &[StateMap]) -> (StateMap, Vec<StateMap>) {
    let mut agreed = StateMap::new();
    let Some((first, others)) = forks.split_first() else {
        return (agreed, Vec::new());
    };
    for (key, id) in first {
        if others.iter().all(|fork| fork.get(key) == Some(id)) {
            agreed.insert(key.clone(), id.clone());
        }
    }
    let own = |fork: &StateMap| {
        fork.iter()
            .filter(|(key, _)| !agreed.contains_key(*key))
            .map(|(key, id)| (key.clone(), id.clone()))
            .collect()
    };
    let forks = forks.iter().map(own).collect();
    (agreed, forks)
}

/// The events that are in some fork's full auth chain but not in every fork's.
///
/// Whatever the agreed state reaches is in all of them, so only what the conflicted events reach can
/// differ, and the (large) agreed state's chains are walked only if something does.
fn auth_difference(
    graph: &mut Graph,
    conflict: &Conflict,
    events: &impl Events,
) -> Result<Vec<Node>, Missing> {
    let Conflict { forks, agreed, .. } = conflict;
    let is_agreed = |node: &Node| {
        let event = graph.event(*node);
        let key = event
            .state_key()
            .map(|key| StateKey::new(event.kind(), key));
        key.and_then(|key| agreed.get(&key))
            .is_some_and(|id| id == event.event_id())
    };
    let everywhere = graph.reachable(graph.nodes().filter(is_agreed), |_| true);

    let mut reached_by = vec![0_usize; graph.len()];
    for fork in forks {
        let own = fork.values().filter_map(|id| graph.find(id));
        for node in graph.reachable(own, |node| !everywhere.contains(&node)) {
            reached_by[node] += 1;
        }
    }
    let mut difference: Vec<Node> = graph
        .nodes()
        .filter(|node| (1..forks.len()).contains(&reached_by[*node]))
        .collect();
    if difference.is_empty() {
        return Ok(difference);
    }
    graph.extend(events, agreed.values(), Reach::Everything)?;
    let agreed: Vec<Node> = agreed.values().filter_map(|id| graph.find(id)).collect();
    let everywhere = graph.reachable(agreed, |_| true);
    difference.retain(|node| !everywhere.contains(node));
    Ok(difference)
}
