//! "State resolution", version 1 of the algorithm and versions 2 and 2.1.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{Event, Events, Key, State, allowed, auth::selection, auth_chain};

type Ids = BTreeSet<String>;

/// The resolution of a set of states.
pub fn resolve(version: u32, states: &[State], events: &Events) -> State {
    let chains = events.keys().map(|id| (id, auth_chain(events, id)));
    let resolver = Resolver {
        version,
        events,
        chains: chains.collect(),
    };
    if version == 1 {
        resolver.resolve_v1(states)
    } else {
        resolver.resolve_v2(states)
    }
}

struct Resolver<'a> {
    version: u32,
    events: &'a Events,
    chains: BTreeMap<&'a String, Ids>,
}

impl Resolver<'_> {
    fn event(&self, id: &str) -> &Event {
        &self.events[id]
    }

    // Version 1.

    fn resolve_v1(&self, states: &[State]) -> State {
        let mut values: BTreeMap<Key, Ids> = BTreeMap::new();
        for (key, id) in states.iter().flatten() {
            values.entry(key.clone()).or_default().insert(id.clone());
        }
        let conflicts: BTreeMap<Key, Ids> = values
            .iter()
            .filter(|(_, ids)| ids.len() > 1)
            .map(|(key, ids)| (key.clone(), ids.clone()))
            .collect();
        let mut result: State = values
            .into_iter()
            .filter(|(_, ids)| ids.len() == 1)
            .map(|(key, ids)| (key, ids.into_iter().next().unwrap()))
            .collect();
        for kind in ["m.room.power_levels", "m.room.join_rules", "m.room.member"] {
            // Each key by itself, upon what was there before the first of this kind.
            let before = result.clone();
            for (key, ids) in conflicts.iter().filter(|(key, _)| key.0 == kind) {
                let mut state = before.clone();
                for (at, id) in self.by_depth(ids).into_iter().enumerate() {
                    if at > 0 && !allowed(self.version, self.event(&id), &state, self.events) {
                        break;
                    }
                    state.insert(key.clone(), id);
                }
                result.insert(key.clone(), state[key].clone());
            }
        }
        let settled = result.clone();
        for (key, ids) in &conflicts {
            if !result.contains_key(key) {
                let list = self.by_depth(ids);
                let fit = list
                    .iter()
                    .rev()
                    .find(|id| allowed(self.version, self.event(id), &settled, self.events));
                result.insert(key.clone(), fit.unwrap_or(&list[0]).clone());
            }
        }
        result
    }

    /// By ascending depth, then descending SHA-1 of the id.
    fn by_depth(&self, ids: &Ids) -> Vec<String> {
        let mut list: Vec<String> = ids.iter().cloned().collect();
        list.sort_by_key(|id| {
            let sha1 = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, id.as_bytes());
            (self.event(id).depth(), Reverse(sha1.as_ref().to_vec()))
        });
        list
    }

    // Versions 2 and 2.1.

    fn resolve_v2(&self, states: &[State]) -> State {
        // Unconflicted state map and conflicted state set.
        let mut unconflicted = State::new();
        let mut conflicted = Ids::new();
        for (key, id) in states.iter().flatten() {
            if states.iter().all(|state| state.get(key) == Some(id)) {
                unconflicted.insert(key.clone(), id.clone());
            } else {
                conflicted.insert(id.clone());
            }
        }
        if conflicted.is_empty() {
            return unconflicted;
        }
        // Full conflicted set. Servers count an event of a state into that state's auth chain.
        let chains: Vec<Ids> = states
            .iter()
            .map(|state| {
                let own = state.values().cloned();
                let chains = state
                    .values()
                    .flat_map(|id| self.chains[id].iter().cloned());
                own.chain(chains).collect()
            })
            .collect();
        let mut full = conflicted.clone();
        for id in chains.iter().flatten() {
            if !chains.iter().all(|chain| chain.contains(id)) {
                full.insert(id.clone());
            }
        }
        if self.version >= 12 {
            // The conflicted state subgraph: on a path from one conflicted event to another.
            for id in self.events.keys() {
                let above = conflicted
                    .iter()
                    .any(|end| end == id || self.chains[end].contains(id));
                let own = &self.chains[id];
                let below = conflicted.iter().any(|end| end == id || own.contains(end));
                if above && below {
                    full.insert(id.clone());
                }
            }
        }

        // 1. Power events, with what of their auth chains is in the set (by paths inside of it).
        let mut power: Ids = full
            .iter()
            .filter(|id| self.is_power(id))
            .cloned()
            .collect();
        loop {
            let more: Ids = power
                .iter()
                .flat_map(|id| self.event(id).auth_events())
                .filter(|id| full.contains(id) && !power.contains(id))
                .collect();
            if more.is_empty() {
                break;
            }
            power.extend(more);
        }
        // 2.
        let start = if self.version >= 12 {
            State::new()
        } else {
            unconflicted.clone()
        };
        let partial = self.apply(start, &self.by_power(&power));
        // 3.
        let rest: Ids = full.difference(&power).cloned().collect();
        let levels = partial.get(&("m.room.power_levels".to_owned(), String::new()));
        let rest = self.by_mainline(&rest, levels.cloned());
        // 4.
        let mut result = self.apply(partial, &rest);
        // 5.
        result.extend(unconflicted);
        result
    }

    fn is_power(&self, id: &str) -> bool {
        let event = self.event(id);
        match event.kind() {
            "m.room.power_levels" | "m.room.join_rules" => event.state_key() == Some(""),
            "m.room.member" => {
                matches!(event.membership(), Some("leave" | "ban"))
                    && event.state_key() != Some(event.sender())
            }
            _ => false,
        }
    }

    /// The sender's power by the event's own auth events: as if it were to send with these as the state.
    fn sender_power(&self, id: &str) -> i128 {
        let event = self.event(id);
        let named = |kind: &str| {
            let mut named = event.auth_events().into_iter();
            named.find(|id| self.event(id).key() == (kind.to_owned(), String::new()))
        };
        let create = match event.kind() {
            "m.room.create" => Some(event.id.clone()),
            _ if self.version >= 12 => Some(event.create_by_room_id()),
            _ => named("m.room.create"),
        };
        super::auth::power_by(
            self.version,
            create.map(|id| self.event(&id)),
            named("m.room.power_levels").map(|id| self.event(&id)),
            event.sender(),
        )
    }

    /// Reverse topological power ordering: again and again the least event whose auth events are out.
    fn by_power(&self, set: &Ids) -> Vec<String> {
        let mut left = set.clone();
        let mut sorted = Vec::new();
        while !left.is_empty() {
            let ready = left.iter().filter(|id| {
                let auth = self.event(id).auth_events();
                !auth.iter().any(|id| left.contains(id))
            });
            let next = ready.min_by_key(|id| {
                (
                    Reverse(self.sender_power(id)),
                    self.event(id).ts(),
                    (*id).clone(),
                )
            });
            let next = next.unwrap().clone();
            left.remove(&next);
            sorted.push(next);
        }
        sorted
    }

    /// The power levels event among an event's auth events.
    fn levels_before(&self, id: &str) -> Option<String> {
        let mut auth = self.event(id).auth_events().into_iter();
        auth.find(|id| self.event(id).key() == ("m.room.power_levels".to_owned(), String::new()))
    }

    fn by_mainline(&self, set: &Ids, levels: Option<String>) -> Vec<String> {
        let mut mainline = Vec::new();
        let mut next = levels;
        while let Some(id) = next {
            next = self.levels_before(&id);
            mainline.push(id);
        }
        let position = |id: &String| {
            let mut next = self.levels_before(id);
            while let Some(id) = next {
                if let Some(at) = mainline.iter().position(|levels| *levels == id) {
                    return at;
                }
                next = self.levels_before(&id);
            }
            usize::MAX
        };
        let mut sorted: Vec<String> = set.iter().cloned().collect();
        sorted.sort_by_key(|id| (Reverse(position(id)), self.event(id).ts(), id.clone()));
        sorted
    }

    /// Iterative auth checks.
    fn apply(&self, mut state: State, sorted: &[String]) -> State {
        for id in sorted {
            let event = self.event(id);
            let mut seen = State::new();
            let mut keys = selection(self.version, event);
            keys.push(("m.room.create".to_owned(), String::new()));
            let mut auth = event.auth_events();
            if self.version >= 12 && event.kind() != "m.room.create" {
                auth.push(event.create_by_room_id());
            }
            for key in keys {
                let own = auth.iter().find(|id| self.event(id).key() == key);
                let own = own.filter(|id| !self.event(id).rejected);
                if let Some(id) = state.get(&key).or(own) {
                    seen.insert(key, id.clone());
                }
            }
            if event.state_key().is_some() && allowed(self.version, event, &seen, self.events) {
                state.insert(event.key(), id.clone());
            }
        }
        state
    }
}
