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
use graph::{Graph, Node, Reach};

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

/// How the states that meet differ, and what of the rest matters: what [`settle`] needs to know of a room.
#[derive(Debug, Clone, Default)]
pub struct Conflict {
    /// Per fork: what it has for the keys for which not all forks have the same event.
    pub forks: Vec<StateMap>,
    /// Events that are in the full auth chains of some forks' states, but not of all. Those of `forks`
    /// count anyway.
    pub auth_difference: BTreeSet<OwnedEventId>,
    /// Events on a path of `auth_events` between two events of `forks`. For version 2.1 only.
    pub subgraph: BTreeSet<OwnedEventId>,
    /// What all forks have: at least the entries of these keys that are among
    /// [`keys_looked_at`] of all the events above.
    pub agreed: StateMap,
}

impl Conflict {
    /// The full conflicted set.
    pub fn events(&self, rules: &RoomRules) -> BTreeSet<&OwnedEventId> {
        let mut events: BTreeSet<&OwnedEventId> =
            self.forks.iter().flat_map(StateMap::values).collect();
        if rules.resolution != Resolution::V1 {
            events.extend(&self.auth_difference);
        }
        if rules.resolution == Resolution::V2_1 {
            events.extend(&self.subgraph);
        }
        events
    }
}

/// The keys of state that settling a conflict about `event` may look at.
pub fn keys_looked_at(event: &Pdu) -> BTreeSet<StateKey> {
    let mut keys: BTreeSet<StateKey> = auth::auth_keys_of(event)
        .into_iter()
        .map(|(kind, key)| StateKey::new(kind, key))
        .collect();
    keys.insert(StateKey::new("m.room.create", ""));
    keys.insert(StateKey::new("m.room.power_levels", ""));
    keys.extend(
        event
            .state_key()
            .map(|key| StateKey::new(event.kind(), key)),
    );
    keys
}

/// What the forks' conflict comes to: the entries that are not agreed about. A key of `conflict.forks` that
/// isn't there has no entry any more; keys that are in none of the forks may be there.
///
/// `events` must have the full conflicted set with all its auth events, the events of `conflict.agreed`
/// that the auth rules look at, and lines of power levels as far as it asks for them.
pub fn settle(
    rules: &RoomRules,
    conflict: &Conflict,
    events: &impl Events,
) -> Result<StateMap, Missing> {
    if rules.resolution == Resolution::V1 {
        return v1::resolve(&conflict.forks, &conflict.agreed, events);
    }
    let full = conflict.events(rules);
    let graph = Graph::load(events, full.iter().copied(), Reach::Auth)?;
    // State is all that can conflict; whatever else a stranger's graph names as auth events is left out.
    let full: HashSet<Node> = full
        .into_iter()
        .filter_map(|id| graph.find(id))
        .filter(|&node| graph.event(node).state_key().is_some())
        .collect();

    let base = (rules.resolution == Resolution::V2).then_some(&conflict.agreed);
    let mut state = Partial::new(&graph, events, base);
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
    let mut settled = state.applied;
    settled.retain(|key, _| !conflict.agreed.contains_key(key));
    Ok(settled.into_iter().collect())
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
    base: Option<&'a StateMap>,
    applied: HashMap<StateKey, OwnedEventId>,
}

impl<'a, E: Events> Partial<'a, E> {
    fn new(graph: &'a Graph, events: &'a E, base: Option<&'a StateMap>) -> Self {
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
        applied.or_else(|| self.base?.get(&key).map(|id| &**id))
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
}
