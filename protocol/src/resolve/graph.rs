//! The auth graph with its events as small integers.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId};

use super::{Events, Missing};
use crate::Pdu;

/// An event's index in the graph.
pub(super) type Node = usize;

/// How far from its roots a graph goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// To their auth events.
    Auth,
    /// To all that they lead to.
    Everything,
}

/// Events and their `auth_events` edges, as far as loaded.
#[derive(Default)]
pub(super) struct Graph {
    events: Vec<Arc<Pdu>>,
    auth: Vec<Vec<Node>>,
    nodes: HashMap<OwnedEventId, Node>,
}

/// `Err` if there are any.
pub(super) fn none_missing(missing: BTreeSet<OwnedEventId>) -> Result<(), Missing> {
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Missing(missing.into_iter().collect()))
    }
}

impl Graph {
    /// What is within `reach` of `roots`, or everything that isn't at hand of it.
    pub(super) fn load<'a>(
        events: &impl Events,
        roots: impl Iterator<Item = &'a OwnedEventId>,
        reach: Reach,
    ) -> Result<Self, Missing> {
        let mut graph = Self::default();
        graph.extend(events, roots, reach)?;
        Ok(graph)
    }

    /// Adds what is within `reach` of `roots`.
    pub(super) fn extend<'a>(
        &mut self,
        events: &impl Events,
        roots: impl Iterator<Item = &'a OwnedEventId>,
        reach: Reach,
    ) -> Result<(), Missing> {
        let first = self.events.len();
        let mut missing = BTreeSet::new();
        let mut queue: VecDeque<(OwnedEventId, bool)> =
            roots.map(|id| (id.clone(), true)).collect();
        while let Some((id, goes_on)) = queue.pop_front() {
            if self.nodes.contains_key(&id) || missing.contains(&id) {
                continue;
            }
            let Some(event) = events.event(&id) else {
                missing.insert(id);
                continue;
            };
            if goes_on {
                queue.extend(
                    event
                        .auth_events()
                        .iter()
                        .filter(|id| !self.nodes.contains_key(*id))
                        .map(|id| (id.clone(), reach == Reach::Everything)),
                );
            }
            self.nodes.insert(id, self.events.len());
            self.events.push(event);
        }
        none_missing(missing)?;
        for event in &self.events[first..] {
            let auth = event
                .auth_events()
                .iter()
                .filter_map(|id| self.find(id))
                .collect();
            self.auth.push(auth);
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn nodes(&self) -> std::ops::Range<Node> {
        0..self.len()
    }

    pub(super) fn find(&self, id: &EventId) -> Option<Node> {
        #[cfg(test)]
        super::tests::count_look();
        self.nodes.get(id).copied()
    }

    pub(super) fn event(&self, node: Node) -> &Arc<Pdu> {
        #[cfg(test)]
        super::tests::count_look();
        &self.events[node]
    }

    pub(super) fn auth(&self, node: Node) -> &[Node] {
        #[cfg(test)]
        super::tests::count_look();
        &self.auth[node]
    }

    /// `from` and all that it reaches by `auth_events` through nodes that are `inside`.
    pub(super) fn reachable(
        &self,
        from: impl IntoIterator<Item = Node>,
        inside: impl Fn(Node) -> bool,
    ) -> HashSet<Node> {
        let mut stack: Vec<Node> = from.into_iter().filter(|&node| inside(node)).collect();
        let mut reached: HashSet<Node> = stack.iter().copied().collect();
        while let Some(node) = stack.pop() {
            for &next in self.auth(node) {
                if inside(next) && reached.insert(next) {
                    stack.push(next);
                }
            }
        }
        reached
    }

    /// `from` and what of `set` it reaches inside of `set`.
    pub(super) fn within(
        &self,
        set: &HashSet<Node>,
        from: impl Iterator<Item = Node>,
    ) -> HashSet<Node> {
        self.reachable(from, |node| set.contains(&node))
    }

    /// The conflicted state subgraph: all on a path between two of `ends`, these included.
    pub(super) fn between(&self, ends: &[Node]) -> HashSet<Node> {
        let below = self.reachable(ends.iter().copied(), |_| true);
        let mut referrers: HashMap<Node, Vec<Node>> = HashMap::new();
        for &node in &below {
            for &next in self.auth(node) {
                referrers.entry(next).or_default().push(node);
            }
        }
        let mut stack = ends.to_vec();
        let mut between: HashSet<Node> = ends.iter().copied().collect();
        while let Some(node) = stack.pop() {
            for &referrer in referrers.get(&node).into_iter().flatten() {
                if between.insert(referrer) {
                    stack.push(referrer);
                }
            }
        }
        between
    }
}
