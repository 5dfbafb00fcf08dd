//! State resolution version 2 and 2.1 once more, step by step (room version 12, "State resolution").

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::OwnedEventId;

use super::{Order, Step};
use crate::{
    Pdu, Rejection, RoomRules, StateKey,
    auth::{self, StateView},
    power::{Level, Power},
    resolve::{Events, Missing, StateMap, is_power_event},
    rules::Resolution,
    topological::parents_first,
};

type Ids = BTreeSet<OwnedEventId>;

/// The events of the full conflicted set in the order in which they are tried, with what came of it.
pub(super) fn steps(
    rules: &RoomRules,
    forks: &[StateMap],
    events: &impl Events,
) -> Result<Vec<Step>, Missing> {
    let agreed = agreed(forks);
    let mut replay = Replay {
        rules,
        events,
        state: StateMap::new(),
        steps: Vec::new(),
    };
    let full = replay.full_conflicted_set(forks, &agreed)?;
    if rules.resolution == Resolution::V2 {
        replay.state = agreed;
    }
    let power = replay.power_events(&full)?;
    for id in replay.by_power(&power)? {
        replay.apply(&id, Order::Power)?;
    }
    let rest: Ids = full.difference(&power).cloned().collect();
    for id in replay.by_mainline(&rest)? {
        replay.apply(&id, Order::Mainline)?;
    }
    Ok(replay.steps)
}

/// The unconflicted state map.
fn agreed(forks: &[StateMap]) -> StateMap {
    let Some((first, others)) = forks.split_first() else {
        return StateMap::new();
    };
    let mut agreed = first.clone();
    agreed.retain(|key, id| others.iter().all(|fork| fork.get(key) == Some(id)));
    agreed
}

struct Replay<'a, E> {
    rules: &'a RoomRules,
    events: &'a E,
    state: StateMap,
    steps: Vec<Step>,
}

impl<E: Events> Replay<'_, E> {
    fn event(&self, id: &OwnedEventId) -> Result<Arc<Pdu>, Missing> {
        self.events
            .event(id)
            .ok_or_else(|| Missing(vec![id.clone()]))
    }

    /// `from` and all that their auth events lead to, as far as `inside` says.
    fn reach<'i>(
        &self,
        from: impl Iterator<Item = &'i OwnedEventId>,
        inside: impl Fn(&OwnedEventId) -> bool,
    ) -> Result<Ids, Missing> {
        let mut left: Vec<OwnedEventId> = from.filter(|id| inside(id)).cloned().collect();
        let mut reached: Ids = left.iter().cloned().collect();
        let mut missing = Ids::new();
        while let Some(id) = left.pop() {
            let Some(event) = self.events.event(&id) else {
                missing.insert(id);
                continue;
            };
            for next in event.auth_events() {
                if inside(next) && reached.insert(next.clone()) {
                    left.push(next.clone());
                }
            }
        }
        if missing.is_empty() {
            Ok(reached)
        } else {
            Err(Missing(missing.into_iter().collect()))
        }
    }

    /// The conflicted state set, the auth difference and, in 2.1, the conflicted state subgraph.
    fn full_conflicted_set(&self, forks: &[StateMap], agreed: &StateMap) -> Result<Ids, Missing> {
        let differs = |(key, id): &(&StateKey, &OwnedEventId)| agreed.get(*key) != Some(*id);
        let own = |fork: &StateMap| -> Ids {
            let entries = fork.iter().filter(differs);
            entries.map(|(_, id)| id.clone()).collect()
        };
        let conflicted: Ids = forks.iter().flat_map(own).collect();
        let mut full = conflicted.clone();

        let mut reached: BTreeMap<OwnedEventId, usize> = BTreeMap::new();
        for fork in forks {
            for id in self.reach(own(fork).iter(), |_| true)? {
                *reached.entry(id).or_default() += 1;
            }
        }
        let mut difference: Ids = reached
            .iter()
            .filter(|(id, count)| **count < forks.len() && !conflicted.contains(*id))
            .map(|(id, _)| id.clone())
            .collect();
        if !difference.is_empty() {
            // What the agreed state leads to is in every fork's chain.
            let everywhere = self.reach(agreed.values(), |_| true)?;
            difference.retain(|id| !everywhere.contains(id));
        }
        full.extend(difference);
        if self.rules.resolution == Resolution::V2_1 {
            let all: Ids = reached.into_keys().collect();
            full.extend(self.between(&conflicted, &all)?);
        }
        let mut state = Ids::new();
        for id in full {
            if self.event(&id)?.state_key().is_some() {
                state.insert(id);
            }
        }
        Ok(state)
    }

    /// All on a path between two of `ends`; `below` is what these reach.
    fn between(&self, ends: &Ids, below: &Ids) -> Result<Ids, Missing> {
        let mut between = ends.clone();
        // Upwards from the ends, one generation at a time.
        loop {
            let mut more = Ids::new();
            for id in below.difference(&between) {
                let auth = self.event(id)?;
                if auth.auth_events().iter().any(|id| between.contains(id)) {
                    more.insert(id.clone());
                }
            }
            if more.is_empty() {
                return Ok(between);
            }
            between.extend(more);
        }
    }

    /// The power events of the set, and what of the set their auth events lead to inside of it.
    fn power_events(&self, full: &Ids) -> Result<Ids, Missing> {
        let mut power = Vec::new();
        for id in full {
            if is_power_event(&*self.event(id)?) {
                power.push(id);
            }
        }
        self.reach(power.into_iter(), |id| full.contains(id))
    }

    /// Reverse topological power ordering.
    fn by_power(&self, set: &Ids) -> Result<Vec<OwnedEventId>, Missing> {
        let mut ranked = Vec::with_capacity(set.len());
        for id in set {
            let event = self.event(id)?;
            ranked.push((Reverse(self.sender_level(&event)?), event));
        }
        let sorted = parents_first(
            &ranked,
            |(_, event)| event.event_id(),
            |(_, event)| event.auth_events().iter().map(|id| &**id),
            |(level, event)| (level, event.origin_server_ts(), event.event_id()),
        );
        let id_of = |(_, event): &(_, Arc<Pdu>)| event.event_id().to_owned();
        Ok(sorted.into_iter().map(id_of).collect())
    }

    /// The power of an event's sender by that event's own auth events.
    fn sender_level(&self, event: &Arc<Pdu>) -> Result<Level, Missing> {
        let mut named = Vec::new();
        for id in event.auth_events().iter().chain(&event.implied_create()) {
            named.push(self.event(id)?);
        }
        if event.is_state("m.room.create", "") {
            named.push(event.clone());
        }
        let create = StateView::get(&named, "m.room.create", "");
        let levels = StateView::get(&named, "m.room.power_levels", "");
        let levels = levels.map(|levels| levels.content());
        let power = Power::new(self.rules, create.map(|create| &**create), levels);
        Ok(power.user(event.sender()))
    }

    /// Mainline ordering, by the power levels that were settled.
    fn by_mainline(&self, set: &Ids) -> Result<Vec<OwnedEventId>, Missing> {
        let mut mainline: BTreeMap<OwnedEventId, usize> = BTreeMap::new();
        let levels = StateKey::new("m.room.power_levels", "");
        let mut next = self.state.get(&levels).cloned();
        while let Some(id) = next.filter(|id| !mainline.contains_key(id)) {
            mainline.insert(id.clone(), mainline.len());
            next = self.levels_of(&*self.event(&id)?)?;
        }
        let mut ranked = Vec::with_capacity(set.len());
        for id in set {
            let event = self.event(id)?;
            let mut seen = Ids::new();
            let mut next = self.levels_of(&event)?;
            let mut position = mainline.len();
            while let Some(id) = next.filter(|id| seen.insert(id.clone())) {
                if let Some(found) = mainline.get(&id) {
                    position = *found;
                    break;
                }
                next = self.levels_of(&*self.event(&id)?)?;
            }
            ranked.push((Reverse(position), event.origin_server_ts(), id.clone()));
        }
        ranked.sort();
        Ok(ranked.into_iter().map(|(_, _, id)| id).collect())
    }

    /// The power levels event among an event's auth events.
    fn levels_of(&self, event: &Pdu) -> Result<Option<OwnedEventId>, Missing> {
        for id in event.auth_events() {
            if self.event(id)?.is_state("m.room.power_levels", "") {
                return Ok(Some(id.clone()));
            }
        }
        Ok(None)
    }

    /// One step of the iterative auth checks.
    fn apply(&mut self, id: &OwnedEventId, order: Order) -> Result<(), Missing> {
        let event = self.event(id)?;
        let refused = self.refusal(&event)?;
        let key = StateKey::new(event.kind(), event.state_key().unwrap_or_default());
        if refused.is_none() {
            self.state.insert(key.clone(), id.clone());
        }
        self.steps.push(Step {
            event: id.clone(),
            key,
            order,
            refused,
        });
        Ok(())
    }

    /// What the state so far, and where that has nothing the event's own auth events, has against it.
    fn refusal(&self, event: &Pdu) -> Result<Option<Rejection>, Missing> {
        let implied = event.implied_create();
        let named = event.auth_events().iter().chain(&implied);
        let named: Vec<Arc<Pdu>> = named.filter_map(|id| self.events.event(id)).collect();
        let mut keys = auth::auth_keys_of(event);
        if implied.is_some() {
            keys.push(("m.room.create", ""));
        }
        let mut view = Vec::with_capacity(keys.len());
        for (kind, key) in keys {
            if let Some(id) = self.state.get(&StateKey::new(kind, key)) {
                view.push(self.event(id)?);
            } else if let Some(own) = StateView::get(&named, kind, key)
                && !self.events.rejected(own.event_id())
            {
                view.push(own.clone());
            }
        }
        Ok(auth::authorize(event, &view).err())
    }
}
