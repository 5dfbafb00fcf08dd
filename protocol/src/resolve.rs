//! State resolution: version 1 in `v1`, versions 2 and 2.1 here.
//!
//! 1. Split the forks' states into what all agree about and the conflicted state set.
//! 2. Widen that to the full conflicted set: the auth difference and, in 2.1, the conflicted state subgraph.
//! 3. Sort the power events and what allows them by reverse topological power ordering; apply those that
//!    pass the auth rules, in 2 on top of the agreed state, in 2.1 on top of nothing.
//! 4. Sort the rest by mainline ordering and apply them likewise.
//! 5. Lay the agreed state over the result.
//!
//! Where the specification's prose leaves room, this follows what the servers in the network do, since
//! they must come to the same state: an event counts as part of its own auth chain when chains are
//! compared, and paths between events of the full conflicted set count only inside of it.
//!
//! Every step is linear in the events looked at, save for sorting. The graph comes from strangers: no
//! step recurses, and each visits an event at most once per fork, so cycles (which hashes rule out anyway)
//! do no harm.

mod graph;
mod order;
mod v1;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId};

pub use crate::StateKey;
use crate::{
    Membership, Pdu, RoomRules,
    auth::{self, StateView},
    rules::Resolution,
};
use graph::{Graph, Node};

/// A room's state as event ids.
pub type StateMap = BTreeMap<StateKey, OwnedEventId>;

/// The events that resolution may look at.
pub trait Events {
    /// The event, if it is at hand.
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>>;
    /// Whether the event was rejected.
    fn rejected(&self, id: &EventId) -> bool;
}

/// Events that resolution needs: load these, best with their whole auth chains, and ask again.
/// Sorted, without duplicates, never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("state resolution needs {} more events", .0.len())]
pub struct Missing(pub Vec<OwnedEventId>);

/// Merges the states of `forks` into one. The order of `forks` doesn't matter.
///
/// What the forks agree about is returned as it is, also where no event is at hand. Every entry of the
/// others, and all that is reachable from those by `auth_events`, must be in `events`; the entries
/// that they agree about only as far as the auth rules or the auth difference look at them.
pub fn resolve(
    rules: &RoomRules,
    forks: &[StateMap],
    events: &impl Events,
) -> Result<StateMap, Missing> {
    if rules.resolution == Resolution::V1 {
        return v1::resolve(forks, events);
    }
    let Split { agreed, conflicted } = split(forks);
    if conflicted.is_empty() {
        return Ok(agreed
            .into_iter()
            .map(|(key, id)| (key.clone(), id.clone()))
            .collect());
    }

    // The full conflicted set.
    let mut graph = Graph::load(events, conflicted.iter().copied())?;
    let conflicted: Vec<Node> = conflicted.iter().filter_map(|id| graph.find(id)).collect();
    let mut full: HashSet<Node> = conflicted.iter().copied().collect();
    let difference = auth_difference(&mut graph, forks, &agreed, &full, events)?;
    full.extend(difference);
    if rules.resolution == Resolution::V2_1 {
        full.extend(graph.between(&conflicted));
    }
    // State is all that can conflict; whatever else a stranger's graph names as auth events is left out.
    full.retain(|&node| graph.event(node).state_key().is_some());

    let mut state = Partial::new(
        &graph,
        events,
        if rules.resolution == Resolution::V2_1 {
            None
        } else {
            Some(&agreed)
        },
    );
    state.want(full.iter().copied())?;

    // 1. Power events and those in their auth chains, in reverse topological power ordering.
    let power_events = full
        .iter()
        .copied()
        .filter(|&node| is_power_event(graph.event(node)));
    let power_events = graph.within(&full, power_events);
    let sorted = order::by_power(&graph, events, rules, &power_events)?;
    // 2. Iterative auth checks.
    state.apply(&sorted)?;

    // 3. The rest in mainline ordering.
    let rest: Vec<Node> = full
        .iter()
        .copied()
        .filter(|node| !power_events.contains(node))
        .collect();
    let levels = state.get_id("m.room.power_levels", "");
    let sorted = order::by_mainline(&graph, events, levels, rest)?;
    // 4. Iterative auth checks.
    state.apply(&sorted)?;

    // 5. What all agree about stays as it is.
    let mut resolved = state.into_map();
    for (key, id) in agreed {
        resolved.insert(key.clone(), id.clone());
    }
    Ok(resolved)
}

/// The unconflicted state map and the conflicted state set.
struct Split<'a> {
    agreed: BTreeMap<&'a StateKey, &'a OwnedEventId>,
    conflicted: BTreeSet<&'a OwnedEventId>,
}

fn split(forks: &[StateMap]) -> Split<'_> {
    /// The first fork's value of a key, how many forks have it, and whether others have other values.
    struct Seen<'a> {
        id: &'a OwnedEventId,
        count: usize,
        others: Vec<&'a OwnedEventId>,
    }
    let mut seen: BTreeMap<&StateKey, Seen<'_>> = BTreeMap::new();
    for fork in forks {
        for (key, id) in fork {
            let entry = seen.entry(key).or_insert(Seen {
                id,
                count: 0,
                others: Vec::new(),
            });
            entry.count += 1;
            if entry.id != id {
                entry.others.push(id);
            }
        }
    }
    let mut split = Split {
        agreed: BTreeMap::new(),
        conflicted: BTreeSet::new(),
    };
    for (key, Seen { id, count, others }) in seen {
        if count == forks.len() && others.is_empty() {
            split.agreed.insert(key, id);
        } else {
            split.conflicted.insert(id);
            split.conflicted.extend(others);
        }
    }
    split
}

/// The events that are in some fork's full auth chain but not in every fork's.
///
/// Whatever the agreed state reaches is in all of them, so only what the conflicted events reach can
/// differ, and the (large) agreed state's chains are walked only if something does.
fn auth_difference(
    graph: &mut Graph,
    forks: &[StateMap],
    agreed: &BTreeMap<&StateKey, &OwnedEventId>,
    conflicted: &HashSet<Node>,
    events: &impl Events,
) -> Result<Vec<Node>, Missing> {
    let is_agreed = |node: &Node| {
        let event = graph.event(*node);
        let key = event
            .state_key()
            .map(|key| StateKey::new(event.kind(), key));
        key.and_then(|key| agreed.get(&key).copied())
            .is_some_and(|id| id == event.event_id())
    };
    let everywhere = graph.reachable(graph.nodes().filter(is_agreed), |_| true);

    let mut reached_by = vec![0_usize; graph.len()];
    for fork in forks {
        let own = fork
            .iter()
            .filter(|(key, _)| !agreed.contains_key(key))
            .filter_map(|(_, id)| graph.find(id));
        for node in graph.reachable(own, |node| !everywhere.contains(&node)) {
            reached_by[node] += 1;
        }
    }
    // The conflicted events themselves are in the full conflicted set anyway.
    let mut difference: Vec<Node> = graph
        .nodes()
        .filter(|node| (1..forks.len()).contains(&reached_by[*node]))
        .filter(|node| !conflicted.contains(node))
        .collect();
    if difference.is_empty() {
        return Ok(difference);
    }
    graph.extend(events, agreed.values().copied())?;
    let agreed: Vec<Node> = agreed.values().filter_map(|id| graph.find(id)).collect();
    let everywhere = graph.reachable(agreed, |_| true);
    difference.retain(|node| !everywhere.contains(node));
    Ok(difference)
}

/// An event that might take away somebody's ability to do something.
fn is_power_event(event: &Pdu) -> bool {
    match event.kind() {
        "m.room.power_levels" | "m.room.join_rules" => event.state_key() == Some(""),
        "m.room.member" => {
            matches!(
                event.membership(),
                Some(Membership::Leave | Membership::Ban)
            ) && event.state_key() != Some(event.sender().as_str())
        }
        _ => false,
    }
}

/// The state while it is being resolved: what has been applied, over a base.
struct Partial<'a, E> {
    graph: &'a Graph,
    events: &'a E,
    base: Option<&'a BTreeMap<&'a StateKey, &'a OwnedEventId>>,
    applied: HashMap<StateKey, OwnedEventId>,
}

impl<'a, E: Events> Partial<'a, E> {
    fn new(
        graph: &'a Graph,
        events: &'a E,
        base: Option<&'a BTreeMap<&'a StateKey, &'a OwnedEventId>>,
    ) -> Self {
        Self {
            graph,
            events,
            base,
            applied: HashMap::new(),
        }
    }

    fn get_id(&self, kind: &str, key: &str) -> Option<&EventId> {
        let key = StateKey::new(kind, key);
        let applied = self.applied.get(&key).map(|id| &**id);
        applied.or_else(|| self.base?.get(&key).map(|id| &***id))
    }

    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.graph
            .find(id)
            .map(|node| self.graph.event(node).clone())
            .or_else(|| self.events.event(id))
    }

    /// Names all at once what the auth checks of these events will look at and isn't at hand.
    fn want(&self, nodes: impl Iterator<Item = Node>) -> Result<(), Missing> {
        let mut missing = BTreeSet::new();
        for node in nodes {
            let event = self.graph.event(node);
            let create = event.implied_create();
            let wanted = auth::auth_keys_of(event)
                .into_iter()
                .filter_map(|(kind, key)| self.get_id(kind, key));
            for id in wanted.chain(create.as_deref()) {
                if self.event(id).is_none() {
                    missing.insert(id.to_owned());
                }
            }
        }
        graph::none_missing(missing)
    }

    /// The iterative auth checks algorithm.
    fn apply(&mut self, sorted: &[Node]) -> Result<(), Missing> {
        for &node in sorted {
            let event = self.graph.event(node);
            if auth::authorize(event, &self.view_for(event)?).is_ok()
                && let Some(key) = event.state_key()
            {
                self.applied.insert(
                    StateKey::new(event.kind(), key),
                    event.event_id().to_owned(),
                );
            }
        }
        Ok(())
    }

    /// What the auth rules look at for `event`: the state so far, and where that lacks an entry, the
    /// event's own auth events unless they were rejected.
    fn view_for(&self, event: &Pdu) -> Result<Vec<Arc<Pdu>>, Missing> {
        let implied_create = event.implied_create();
        let named = event.auth_events().iter().chain(&implied_create);
        let named: Vec<_> = named.filter_map(|id| self.event(id)).collect();
        let mut keys = auth::auth_keys_of(event);
        if implied_create.is_some() {
            keys.push(("m.room.create", ""));
        }
        let mut view = Vec::with_capacity(keys.len());
        for (kind, key) in keys {
            if let Some(id) = self.get_id(kind, key) {
                view.push(self.event(id).ok_or_else(|| Missing(vec![id.to_owned()]))?);
            } else if let Some(own) = StateView::get(&named, kind, key)
                && !self.events.rejected(own.event_id())
            {
                view.push(own.clone());
            }
        }
        Ok(view)
    }

    fn into_map(self) -> StateMap {
        self.applied.into_iter().collect()
    }
}
