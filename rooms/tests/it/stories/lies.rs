//! What the third server hears when it is lied to: states told at gaps, missing events that come late or as
//! history.

use std::sync::Arc;

use rhizome_protocol::{Pdu, StateKey, resolve::StateMap};
use rhizome_rooms::{
    Error, Rooms,
    receive::{self, Gathered, Received},
};
use rhizome_storage::{Placement, SnapshotNo, Status};
use ruma::{EventId, OwnedEventId};

use super::{
    Story,
    textbook::{resolution, state_map},
};
use crate::rig::*;

impl Story<'_> {
    /// The states after the third server's ends, but those that `prevs` name.
    async fn states_at_ends(&self, prevs: &[OwnedEventId]) -> Vec<SnapshotNo> {
        let store = self.servers[2].store();
        let mut ends = ends(&self.servers[2], &self.room).await;
        ends.retain(|end| !prevs.contains(end));
        let ends = store.events(&ends).await.unwrap();
        ends.iter().filter_map(|end| end.state_after).collect()
    }

    /// The third server hears of an event, with what `gathered` tells. Whatever was told, of what it knew then
    /// the current state loses nothing but what the new event was computed from.
    async fn hear(&mut self, event: &Arc<Pdu>, gathered: &Gathered) -> Option<Received> {
        let three = &self.servers[2];
        let store = three.store();
        let head = store.room(&self.room).await.unwrap().unwrap();
        let known = store.events(event.prev_events()).await.unwrap();
        let mut known = known;
        known.retain(|prev| prev.state_after.is_some());
        let is_plain = known.iter().all(|prev| prev.status == Status::Accepted);
        let ids: Vec<_> = known
            .iter()
            .map(|prev| prev.pdu.event_id().to_owned())
            .collect();
        let mut states = self.states_at_ends(&ids).await;
        let is_late = store.is_missing_prev(head.room, event.event_id()).await;
        let outcome = match receive::receive(three, event.clone(), gathered).await {
            Ok(outcome) => outcome,
            Err(Error::UnknownRoom(_)) => return None,
            Err(error) => panic!("{error}"),
        };
        if outcome == Received::Accepted && is_plain {
            self.late += usize::from(is_late.unwrap());
            states.extend(stored(three, event.event_id()).await.state_after);
            let expected = resolution(three, self.rules, &states).await;
            let now = current(three, &self.room).await;
            assert_eq!(now, expected, "{}, {}", self.name, event.event_id());
        }
        Some(outcome)
    }

    /// Carries an event and what it needs to the third server.
    pub async fn carry_checked(&mut self, from: usize, id: &EventId) {
        let from = &self.servers[from];
        let mut stack = vec![id.to_owned()];
        while let Some(id) = stack.pop() {
            let event = pdu(from, &id).await;
            let Some(Received::Need(need)) = self.hear(&event, &Gathered::default()).await else {
                continue;
            };
            stack.push(id);
            if need.prev.is_empty() {
                give_auth(from, &self.servers[2], &[event.event_id().to_owned()]).await;
            }
            stack.extend(need.prev);
        }
    }

    /// A state that is told about an event: the true one there, or one of some other time.
    async fn claim(&mut self, from: usize, at: &EventId) -> Option<StateMap> {
        let store = self.servers[from].store();
        let mut state = store.event(at).await.unwrap()?.state_after?;
        if self.dice.roll(3) > 0 {
            let other = self.all.iter().nth(self.dice.roll(self.all.len()))?;
            if let Some(event) = store.event(other).await.unwrap() {
                state = event.state_after.unwrap_or(state);
            }
        }
        let mut map = state_map(&self.servers[from], Some(state)).await;
        // Its own effect can't be kept back.
        let own = pdu(&self.servers[from], at).await;
        if let Some(key) = own.state_key() {
            map.insert(StateKey::new(own.kind(), key), at.to_owned());
        }
        let mut ids: Vec<_> = map.values().cloned().collect();
        ids.push(at.to_owned());
        give_auth(&self.servers[from], &self.servers[2], &ids).await;
        Some(map)
    }

    /// The third server gets an event without what it follows, and is told a state instead.
    pub async fn arrive_at_a_gap(&mut self, from: usize, id: &EventId) {
        let event = pdu(&self.servers[from], id).await;
        let mut gathered = Gathered::default();
        for _ in 0..3 {
            let Some(Received::Need(need)) = self.hear(&event, &gathered).await else {
                return;
            };
            give_auth(&self.servers[from], &self.servers[2], &[id.to_owned()]).await;
            for prev in need.prev {
                let Some(state) = self.claim(from, &prev).await else {
                    return;
                };
                self.told += 1;
                self.under_way.push((from, 2, prev.clone()));
                gathered.states_after.insert(prev, state);
            }
        }
    }

    /// The third server gets an event, and some of what it follows, as history.
    pub async fn arrive_as_history(&mut self, from: usize, id: &EventId) {
        let three = &self.servers[2];
        let head = three.store().room(&self.room).await.unwrap().unwrap();
        if !three.store().is_missing_prev(head.room, id).await.unwrap() {
            return self.carry_checked(from, id).await;
        }
        let mut page: Vec<Arc<Pdu>> = Vec::new();
        let mut next = vec![id.to_owned()];
        while let Some(id) = next.pop().filter(|_| page.len() < 4) {
            let known = three.store().event(&id).await.unwrap();
            if known.is_none_or(|known| known.placement == Placement::Outlier) {
                let event = pdu(&self.servers[from], &id).await;
                next.extend(event.prev_events().iter().cloned());
                page.push(event);
            }
        }
        let ids: Vec<_> = page.iter().map(|pdu| pdu.event_id().to_owned()).collect();
        give_auth(&self.servers[from], three, &ids).await;
        let mut states = self.states_at_ends(&[]).await;
        let mut gathered = Gathered::default();
        for _ in 0..3 {
            let page = page.clone();
            let report = receive::backfilled(three, &self.room, page, &gathered).await;
            let report = report.unwrap();
            self.pages += usize::from(!report.accepted.is_empty());
            for need in report.needs.into_values() {
                for prev in need.prev.into_iter().filter(|prev| !ids.contains(prev)) {
                    if let Some(state) = self.claim(from, &prev).await {
                        gathered.states_after.insert(prev, state);
                    }
                }
            }
        }
        // What was known is in the current state even so, beside what is new.
        states.extend(self.states_at_ends(&[]).await);
        states.sort_unstable();
        states.dedup();
        let expected = resolution(three, self.rules, &states).await;
        assert_eq!(current(three, &self.room).await, expected, "{}", self.name);
    }
}

/// Stores what these events rest on, and they themselves, as outliers.
async fn give_auth(from: &Rooms, to: &Rooms, ids: &[OwnedEventId]) {
    let mut all = from.store().auth_chain(ids).await.unwrap();
    all.extend(ids.iter().cloned());
    let known = to.store().known_event_ids(&all).await.unwrap();
    all.retain(|id| !known.contains(id));
    let events = from.store().events(&all).await.unwrap();
    let Some(first) = events.first() else { return };
    let room = first.pdu.room_id().to_owned();
    let events = events.iter().map(|event| event.pdu.clone()).collect();
    receive::outliers(to, &room, events).await.unwrap();
}
