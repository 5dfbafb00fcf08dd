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
mod iterative;
mod mainline;
mod power_order;
#[cfg(test)]
mod tests;
mod textbook;
mod v1;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId};

use crate::{Membership, Pdu, RoomRules, StateKey, auth, rules::Resolution};
use graph::{Graph, Node, Reach};
use iterative::Resolving;
pub use textbook::resolve;

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
    let mut state = Resolving::new(&graph, events, base);
    state.want(full.iter().copied())?;

    // 1. Power events and those in their auth chains, in reverse topological power ordering.
    let power_events = full
        .iter()
        .copied()
        .filter(|&node| is_power_event(graph.event(node)));
    let power_events = graph.within(&full, power_events);
    let sorted = power_order::by_power(&graph, events, rules, &power_events)?;
    // 2. Iterative auth checks.
    state.apply(&sorted)?;

    // 3. The rest in mainline ordering.
    let rest: Vec<Node> = full
        .iter()
        .copied()
        .filter(|node| !power_events.contains(node))
        .collect();
    let levels = state.get_id("m.room.power_levels", "");
    let sorted = mainline::by_mainline(&graph, events, levels, rest)?;
    // 4. Iterative auth checks.
    state.apply(&sorted)?;

    // 5. What all agree about stays as it is.
    let mut settled = state.applied;
    settled.retain(|key, _| !conflict.agreed.contains_key(key));
    Ok(settled.into_iter().collect())
}

/// An event that might take away somebody's ability to do something.
pub(crate) fn is_power_event(event: &Pdu) -> bool {
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
