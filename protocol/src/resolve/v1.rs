//! State resolution version 1 (room version 1, "State resolution").
//!
//! What two forks have different events for is in conflict; what only some of them have is not. Conflicts
//! are settled type by type: power levels, join rules, memberships, then all else, each judged by what is
//! settled before it and never by another conflict of its own kind.
//!
//! Where the prose leaves room, this follows the servers on which such rooms live: each membership is
//! settled by itself, and where none of the other events is allowed, the least deep one stands.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use ring::digest;
use ruma::OwnedEventId;

use super::{Events, Missing, StateKey, StateMap};
use crate::{
    Pdu,
    auth::{self, StateView},
};

/// Merges what the forks don't agree about, upon what they do.
pub(super) fn resolve(
    forks: &[StateMap],
    agreed: &StateMap,
    events: &impl Events,
) -> Result<StateMap, Missing> {
    let (mut resolved, conflicts) = split(forks);
    let candidates = load(&conflicts, events)?;
    let mut state = Settled::load([agreed, &resolved], &candidates, events)?;

    // Power levels, then join rules, then memberships: what later ones are judged by.
    for kind in ["m.room.power_levels", "m.room.join_rules", "m.room.member"] {
        let of_kind = candidates.iter().filter(|(key, _)| key.kind == kind);
        let settled: Vec<_> = of_kind
            .map(|(key, events)| (*key, state.settle_in_order(key, events)))
            .collect();
        for (key, event) in settled {
            resolved.insert(key.clone(), event.event_id().to_owned());
            state.0.insert(key.clone(), event);
        }
    }
    // The rest doesn't change what is allowed.
    for (key, events) in &candidates {
        if !resolved.contains_key(key) {
            let event = state.settle_by_depth(events);
            resolved.insert((*key).clone(), event.event_id().to_owned());
        }
    }
    Ok(resolved)
}

type Conflicts<'a> = BTreeMap<&'a StateKey, Vec<&'a OwnedEventId>>;

/// The union of the forks without what is in conflict, and that.
fn split(forks: &[StateMap]) -> (StateMap, Conflicts<'_>) {
    let mut all: Conflicts<'_> = BTreeMap::new();
    for (key, id) in forks.iter().flatten() {
        let ids = all.entry(key).or_default();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let mut agreed = StateMap::new();
    all.retain(|key, ids| {
        let [id] = ids.as_slice() else { return true };
        agreed.insert((*key).clone(), (*id).clone());
        false
    });
    (agreed, all)
}

/// The events in conflict, least deep first; of one depth, greatest SHA-1 of the id first.
fn load<'a>(
    conflicts: &Conflicts<'a>,
    events: &impl Events,
) -> Result<BTreeMap<&'a StateKey, Vec<Arc<Pdu>>>, Missing> {
    let mut missing = std::collections::BTreeSet::new();
    let mut loaded = BTreeMap::new();
    for (key, ids) in conflicts {
        let mut of_key = Vec::with_capacity(ids.len());
        for id in ids {
            match events.event(id) {
                Some(event) => of_key.push(event),
                None => drop(missing.insert((*id).clone())),
            }
        }
        of_key.sort_by_cached_key(|event| (event.depth(), Reverse(sha1(event))));
        loaded.insert(*key, of_key);
    }
    super::graph::none_missing(missing)?;
    Ok(loaded)
}

fn sha1(event: &Pdu) -> Vec<u8> {
    let id = event.event_id().as_str().as_bytes();
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, id)
        .as_ref()
        .to_vec()
}

/// What is settled of the state, as far as judging the conflicts looks at it.
struct Settled(BTreeMap<StateKey, Arc<Pdu>>);

impl StateView for Settled {
    fn get(&self, kind: &str, state_key: &str) -> Option<&Arc<Pdu>> {
        self.0.get(&StateKey::new(kind, state_key))
    }
}

/// [`Settled`] with one more event in it.
struct With<'a> {
    state: &'a Settled,
    event: &'a Arc<Pdu>,
}

impl StateView for With<'_> {
    fn get(&self, kind: &str, state_key: &str) -> Option<&Arc<Pdu>> {
        if self.event.is_state(kind, state_key) {
            Some(self.event)
        } else {
            self.state.get(kind, state_key)
        }
    }
}

impl Settled {
    /// What all agree about of the state that allows the candidates.
    fn load(
        agreed: [&StateMap; 2],
        candidates: &BTreeMap<&StateKey, Vec<Arc<Pdu>>>,
        events: &impl Events,
    ) -> Result<Self, Missing> {
        let mut missing = std::collections::BTreeSet::new();
        let mut state = BTreeMap::new();
        for event in candidates.values().flatten() {
            for (kind, key) in auth::auth_keys_of(event) {
                let key = StateKey::new(kind, key);
                if state.contains_key(&key) {
                    continue;
                }
                let Some(id) = agreed.iter().find_map(|state| state.get(&key)) else {
                    continue;
                };
                match events.event(id) {
                    Some(event) => drop(state.insert(key, event)),
                    None => drop(missing.insert(id.clone())),
                }
            }
        }
        super::graph::none_missing(missing)?;
        Ok(Self(state))
    }

    /// The last of `events`, from the least deep on, of which each is allowed by the one before it.
    fn settle_in_order(&self, key: &StateKey, events: &[Arc<Pdu>]) -> Arc<Pdu> {
        debug_assert!(
            events
                .iter()
                .all(|event| event.is_state(&key.kind, &key.key))
        );
        let mut last = &events[0];
        for event in &events[1..] {
            let state = With {
                state: self,
                event: last,
            };
            if auth::authorize(event, &state).is_err() {
                break;
            }
            last = event;
        }
        last.clone()
    }

    /// The deepest of `events` that is allowed; if none is, the least deep.
    fn settle_by_depth(&self, events: &[Arc<Pdu>]) -> Arc<Pdu> {
        let allowed = events
            .iter()
            .rev()
            .find(|event| auth::authorize(event, self).is_ok());
        allowed.unwrap_or(&events[0]).clone()
    }
}
