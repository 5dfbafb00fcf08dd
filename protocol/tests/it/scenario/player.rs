//! Plays a scenario, and compares every merge and decision with the oracles.

use std::{fmt::Write as _, sync::Arc};

use rhizome_protocol::{
    Pdu, StateKey,
    auth::{authorize, check_auth_events},
    explain::explain,
    resolve::{StateMap, resolve},
};
use ruma::OwnedEventId;
use serde_json::json;

use super::{AuthTrick, Count, Scenario, Step};
use crate::{
    naive,
    room::{ALICE, BOB, Room, member, state},
};

pub(super) struct Player {
    room: Room,
    version: u32,
    tame: bool,
    /// The kept events by the steps' names, in order; 0 is the room's beginning.
    kept: Vec<(usize, OwnedEventId)>,
    count: Count,
}

impl Player {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let (room, last) = if scenario.lively {
            Room::lively(scenario.version)
        } else {
            let creators = json!({"additional_creators": [BOB]});
            let mut room = Room::bare(
                scenario.version,
                if scenario.version == "12" {
                    creators
                } else {
                    json!({})
                },
            );
            let public = state("m.room.join_rules", "", json!({"join_rule": "public"}));
            let last = room.send_all(
                &[room.create.clone()],
                &[(ALICE, member(ALICE, "join")), (ALICE, public)],
            );
            (room, last)
        };
        Self {
            room,
            version: scenario.version.parse().unwrap(),
            tame: scenario.tame,
            kept: vec![(0, last)],
            count: Count::default(),
        }
    }

    pub(super) fn play(mut self, steps: &[Step]) -> Result<(Count, Room), String> {
        for step in steps {
            self.step(step)
                .map_err(|error| format!("step {}: {error}", step.name))?;
        }
        Ok((self.count, self.room))
    }

    /// The event of the step with this name, or of the last one before it that was kept.
    fn event_of(&self, name: usize) -> &OwnedEventId {
        let at = self.kept.partition_point(|(kept, _)| *kept <= name);
        &self.kept[at.max(1) - 1].1
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let mut prev: Vec<OwnedEventId> = Vec::new();
        for name in &step.after {
            let id = self.event_of(*name).clone();
            if !prev.contains(&id) {
                prev.push(id);
            }
        }
        let before = self.merge(&prev)?;
        let event = self.build(step, &before, &prev);
        let room = &self.room;

        // As on receipt: by the auth events, by the state before it, by that of some other place.
        let by_auth = self.by_auth_events(&event)?;
        let Some(by_state) = self.by_state(&event, &before)? else {
            return Ok(());
        };
        let elsewhere = room.after[self.event_of(step.name / 2)].clone();
        self.by_state(&event, &elsewhere)?;
        self.count.decisions += 3;

        if event.kind() == "m.room.create" {
            // The rules may allow it. No room takes a second one.
            return Ok(());
        }
        let allowed = by_auth && by_state;
        if by_auth && (allowed || step.keep_rejected) {
            let id = self.room.keep(event, before, !allowed);
            self.kept.push((step.name, id));
        }
        Ok(())
    }

    /// The state before an event, on which all must agree.
    fn merge(&mut self, prev: &[OwnedEventId]) -> Result<StateMap, String> {
        let room = &self.room;
        let forks: Vec<_> = prev.iter().map(|id| room.after[id].clone()).collect();
        let ours = resolve(room.rules, &forks, room).map_err(|missing| missing.to_string())?;
        if forks.iter().all(|fork| *fork == forks[0]) {
            return Ok(ours);
        }
        self.count.merges += 1;
        let told = explain(room.rules, &forks, room).map_err(|missing| missing.to_string())?;
        if !told.agrees || told.state != ours {
            return Err(format!("the explanation is of another merge: {told:?}"));
        }
        let text = |state: &StateMap| -> naive::State {
            let entry = |(key, id): (&StateKey, &OwnedEventId)| {
                ((key.kind.clone(), key.key.clone()), id.to_string())
            };
            state.iter().map(entry).collect()
        };
        let naive_forks: Vec<_> = forks.iter().map(text).collect();
        let by_the_book = naive::resolve(self.version, &naive_forks, &room.naive);
        if text(&ours) != by_the_book {
            return Err(self.differ("the naive reading", &text(&ours), &by_the_book));
        }
        if self.tame
            && let Some(theirs) = room.ruma_resolves(&forks)
            && ours != theirs
        {
            return Err(self.differ("ruma", &text(&ours), &text(&theirs)));
        }
        Ok(ours)
    }

    fn differ(&self, who: &str, ours: &naive::State, theirs: &naive::State) -> String {
        let name = |id: Option<&String>| match id {
            None => "nothing".to_owned(),
            Some(id) => match self.kept.iter().find(|(_, kept)| kept.as_str() == id) {
                Some((name, _)) => format!("step {name}"),
                None => "the room's beginning".to_owned(),
            },
        };
        let mut text = format!("the merged state is not as {who} has it:");
        let mut keys: Vec<_> = ours.keys().chain(theirs.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            if ours.get(key) != theirs.get(key) {
                let (ours, theirs) = (name(ours.get(key)), name(theirs.get(key)));
                let _ = write!(text, "\n    {key:?}: ours {ours}, theirs {theirs}");
            }
        }
        text
    }

    fn build(&self, step: &Step, before: &StateMap, prev: &[OwnedEventId]) -> Arc<Pdu> {
        let mut at = 0;
        let choose = |key: &StateKey| {
            let honest = before.get(key).cloned();
            // The create event always stays: without it, an event is refused at once. Without join rules,
            // ruma lets nobody in, where to Synapse and to us they are `invite`.
            let fixed =
                key.kind == "m.room.create" || (self.tame && key.kind == "m.room.join_rules");
            if fixed {
                return honest;
            }
            at += 1;
            match step.auth {
                AuthTrick::Omit(which) if which == at => None,
                AuthTrick::Stale(which, of) if which == at => {
                    let other = &self.room.after[self.event_of(of)];
                    other.get(key).cloned().or(honest)
                }
                _ => honest,
            }
        };
        let event = self
            .room
            .build_with(choose, prev, step.ts, step.sender, &step.what);
        if step.mangled {
            return Arc::new(event.redacted());
        }
        event
    }

    fn by_auth_events(&self, event: &Arc<Pdu>) -> Result<bool, String> {
        let room = &self.room;
        let create = event.implied_create();
        let named = event.auth_events().iter().chain(&create);
        let named: Vec<_> = named
            .map(|id| (room.events[id].clone(), room.rejected.contains(id)))
            .collect();
        let state: Vec<_> = named.iter().map(|(event, _)| event.clone()).collect();
        let ours = check_auth_events(event, &named).and_then(|()| authorize(event, &state));
        let naive_event = Room::naive(event, false);
        let by_the_book = naive::auth_events_allowed(self.version, &naive_event, &room.naive);
        if ours.is_ok() != by_the_book {
            return Err(format!(
                "by its auth events: ours {ours:?}, the naive reading {by_the_book}"
            ));
        }
        Ok(by_the_book)
    }

    /// Whether the state allows the event; `None` where ruma differs on purpose.
    fn by_state(&self, event: &Arc<Pdu>, state: &StateMap) -> Result<Option<bool>, String> {
        let room = &self.room;
        let ours = authorize(event, &room.view(state));
        let naive_state = state
            .iter()
            .map(|(key, id)| ((key.kind.clone(), key.key.clone()), id.to_string()))
            .collect();
        let naive_event = Room::naive(event, false);
        let by_the_book = naive::allowed(self.version, &naive_event, &naive_state, &room.naive);
        if ours.is_ok() != by_the_book {
            return Err(format!(
                "by the state: ours {ours:?}, the naive reading {by_the_book}"
            ));
        }
        // It asks nothing of create events where there is a state.
        if self.tame && event.kind() != "m.room.create" {
            let theirs = room.ruma_allows(event, state);
            // Merged forks may lose all join rules, too.
            if theirs
                .as_ref()
                .is_err_and(|error| error.contains("no `m.room.join_rules`"))
            {
                return Ok(None);
            }
            if ours.is_ok() != theirs.is_ok() {
                return Err(format!("by the state: ours {ours:?}, ruma {theirs:?}"));
            }
        }
        Ok(Some(by_the_book))
    }
}
