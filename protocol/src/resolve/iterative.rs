//! The iterative auth checks: the state while it is being resolved.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId};

use super::{
    Events, Missing, StateMap,
    graph::{Graph, Node, none_missing},
};
use crate::{
    Pdu, StateKey,
    auth::{self, StateView},
};

/// The state while it is being resolved: what has been applied, over a base.
pub(super) struct Resolving<'a, E> {
    graph: &'a Graph,
    events: &'a E,
    base: Option<&'a StateMap>,
    pub(super) applied: HashMap<StateKey, OwnedEventId>,
}

impl<'a, E: Events> Resolving<'a, E> {
    pub(super) fn new(graph: &'a Graph, events: &'a E, base: Option<&'a StateMap>) -> Self {
        Self {
            graph,
            events,
            base,
            applied: HashMap::new(),
        }
    }

    pub(super) fn get_id(&self, kind: &str, key: &str) -> Option<&EventId> {
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
    pub(super) fn want(&self, nodes: impl Iterator<Item = Node>) -> Result<(), Missing> {
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
        none_missing(missing)
    }

    /// The iterative auth checks algorithm.
    pub(super) fn apply(&mut self, sorted: &[Node]) -> Result<(), Missing> {
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
