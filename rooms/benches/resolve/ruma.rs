//! The same fork as ruma-state-res wants it.

use std::collections::{HashMap, HashSet};

use rhizome_protocol::StateKey;
use rhizome_storage::{EventNo, KeyNo, SnapshotNo};
use ruma::{OwnedEventId, events::StateEventType, room_version_rules::RoomVersionRules};
use ruma_state_res::{Event as _, StateMap, utils::event_id_set::EventIdSet};

use crate::{Hall, ruma_event::RumaEvent};

pub struct Input {
    rules: RoomVersionRules,
    maps: Vec<StateMap<OwnedEventId>>,
    chains: Vec<EventIdSet<OwnedEventId>>,
    events: HashMap<OwnedEventId, RumaEvent>,
}

impl Input {
    pub async fn of(hall: &Hall, forks: &[SnapshotNo]) -> Self {
        let mut input = Self {
            rules: hall.head.rules.version.rules().unwrap(),
            maps: Vec::new(),
            chains: Vec::new(),
            events: HashMap::new(),
        };
        for pdu in hall.events.values() {
            let event = RumaEvent::new(pdu, false);
            input.events.insert(pdu.event_id().to_owned(), event);
        }
        for fork in forks {
            let all = hall.rooms.store().state_all(*fork).await.unwrap();
            let pdus: Vec<_> = all.iter().map(|(_, no)| &hall.events[no]).collect();
            let map = pdus.iter().map(|pdu| {
                let key = pdu.state_key().unwrap().to_owned();
                (
                    (StateEventType::from(pdu.kind()), key),
                    pdu.event_id().to_owned(),
                )
            });
            input.maps.push(map.collect());
            let chain = input.chain(pdus.iter().map(|pdu| pdu.event_id().to_owned()).collect());
            input.chains.push(chain.into_iter().collect());
        }
        input
    }

    fn chain(&self, mut todo: Vec<OwnedEventId>) -> HashSet<OwnedEventId> {
        let mut chain = HashSet::new();
        while let Some(id) = todo.pop() {
            if !chain.contains(&id) {
                todo.extend(self.events[&id].auth_events().cloned());
                chain.insert(id);
            }
        }
        chain
    }

    pub fn chains(&self) -> Vec<EventIdSet<OwnedEventId>> {
        self.chains.clone()
    }

    pub fn resolve(&self, chains: Vec<EventIdSet<OwnedEventId>>) -> StateMap<OwnedEventId> {
        ruma_state_res::resolve(
            &self.rules.authorization,
            self.rules.state_res.v2_rules().unwrap(),
            &self.maps,
            chains,
            |id| self.events.get(id).cloned(),
            |conflicted| Some(self.between(&conflicted.values().flatten().cloned().collect())),
        )
        .unwrap()
    }

    fn between(&self, ends: &HashSet<OwnedEventId>) -> EventIdSet<OwnedEventId> {
        let mut reaches: HashMap<OwnedEventId, bool> = HashMap::new();
        ends.iter()
            .flat_map(|end| self.chain(vec![end.clone()]))
            .filter(|id| {
                *reaches.entry(id.clone()).or_insert_with(|| {
                    self.chain(vec![id.clone()])
                        .iter()
                        .any(|id| ends.contains(id))
                })
            })
            .collect()
    }

    /// The two answers are one.
    pub async fn must_agree(
        &self,
        hall: &Hall,
        forks: &[SnapshotNo],
        ours: &[(KeyNo, Option<EventNo>)],
        theirs: StateMap<OwnedEventId>,
    ) {
        let store = hall.rooms.store();
        let mut all: HashMap<KeyNo, EventNo> = store
            .state_all(forks[0])
            .await
            .unwrap()
            .into_iter()
            .collect();
        for (key, event) in ours {
            match event {
                Some(event) => all.insert(*key, *event),
                None => all.remove(key),
            };
        }
        let mut named = HashMap::new();
        for (key, event) in all {
            let name: StateKey = store.key(key).await.unwrap().as_ref().clone();
            named.insert(
                (StateEventType::from(name.kind), name.key),
                hall.events[&event].event_id().to_owned(),
            );
        }
        assert_eq!(named.len(), theirs.len());
        assert!(
            theirs.iter().all(|(key, id)| named.get(key) == Some(id)),
            "they don't agree"
        );
    }
}
