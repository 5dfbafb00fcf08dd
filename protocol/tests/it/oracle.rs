//! ruma's room model, to compare ours with.

use std::collections::{HashMap, HashSet};

use rhizome_protocol::{
    Pdu, StateKey,
    resolve::{Events, StateMap},
};
use ruma::{EventId, OwnedEventId, events::StateEventType};
use ruma_state_res::{check_state_dependent_auth_rules, utils::event_id_set::EventIdSet};

use crate::{room::Room, ruma_event::RumaEvent};

impl Room {
    fn ruma_event(&self, id: &EventId) -> Option<RumaEvent> {
        self.events
            .get(id)
            .map(|pdu| RumaEvent::new(pdu, self.rejected(id)))
    }

    /// Whether ruma allows the event in this state.
    pub fn ruma_allows(&self, event: &std::sync::Arc<Pdu>, state: &StateMap) -> Result<(), String> {
        let rules = self.rules.version.rules().unwrap().authorization;
        check_state_dependent_auth_rules(
            &rules,
            RumaEvent::new(event, false),
            |kind: &StateEventType, key: &str| {
                self.ruma_event(state.get(&StateKey::new(kind.to_string(), key))?)
            },
        )
    }

    /// What ruma resolves these forks to; `None` for version 1, whose algorithm it lacks.
    pub fn ruma_resolves(&self, forks: &[StateMap]) -> Option<StateMap> {
        let rules = self.rules.version.rules().unwrap();
        let algorithm = rules.state_res.v2_rules()?;
        let maps: Vec<ruma_state_res::StateMap<OwnedEventId>> = forks
            .iter()
            .map(|fork| {
                fork.iter()
                    .map(|(key, id)| ((key.kind.as_str().into(), key.key.clone()), id.clone()))
                    .collect()
            })
            .collect();
        let chains = forks.iter().map(|fork| {
            self.chain_of(fork.values())
                .into_iter()
                .collect::<EventIdSet<_>>()
        });
        let resolved = ruma_state_res::resolve(
            &rules.authorization,
            algorithm,
            &maps,
            chains.collect(),
            |id| self.ruma_event(id),
            |conflicted| {
                Some(
                    self.subgraph(&conflicted.values().flatten().cloned().collect())
                        .into_iter()
                        .collect(),
                )
            },
        );
        let resolved = resolved.unwrap().into_iter();
        Some(
            resolved
                .map(|((kind, key), id)| (StateKey::new(kind.to_string(), key), id))
                .collect(),
        )
    }

    /// These events and all in their auth chains.
    fn chain_of<'a>(&self, ids: impl Iterator<Item = &'a OwnedEventId>) -> HashSet<OwnedEventId> {
        let mut todo: Vec<_> = ids.cloned().collect();
        let mut chain = HashSet::new();
        while let Some(id) = todo.pop() {
            if chain.insert(id.clone()) {
                todo.extend(self.events[&id].auth_events().iter().cloned());
            }
        }
        chain
    }

    /// The conflicted state subgraph, found the slow way: by trying every event.
    fn subgraph(&self, conflicted: &HashSet<OwnedEventId>) -> HashSet<OwnedEventId> {
        let below: HashMap<&OwnedEventId, HashSet<OwnedEventId>> = self
            .events
            .keys()
            .map(|id| (id, self.chain_of(std::iter::once(id))))
            .collect();
        self.events
            .keys()
            .filter(|id| conflicted.iter().any(|end| below[end].contains(*id)))
            .filter(|id| conflicted.iter().any(|end| below[id].contains(end)))
            .cloned()
            .collect()
    }
}
