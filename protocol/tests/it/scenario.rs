//! A room's history as data: what it takes to play it again, to make it smaller, and to tell it.

use std::{fmt::Write as _, sync::Arc};

use rhizome_protocol::{
    Pdu, StateKey,
    auth::{authorize, check_auth_events},
    explain::explain,
    resolve::{StateMap, resolve},
};
use ruma::OwnedEventId;
use serde_json::json;

use crate::{
    naive,
    room::{ALICE, BOB, Room, What, member, state},
};

/// A room's history.
#[derive(Clone)]
pub struct Scenario {
    pub version: &'static str,
    /// Begins with more than the creator's join.
    pub lively: bool,
    /// ruma's judgement is asked for too.
    pub tame: bool,
    pub steps: Vec<Step>,
}

/// One event.
#[derive(Clone)]
pub struct Step {
    /// Its name, by which later steps refer to it.
    pub name: usize,
    /// What it follows: the steps of these names, or the latest before them that were kept.
    pub after: Vec<usize>,
    pub ts: i64,
    pub sender: &'static str,
    pub what: What,
    pub auth: AuthTrick,
    /// Its content isn't what its hash says: it goes on redacted.
    pub mangled: bool,
    /// A rejected event is kept nevertheless, and others follow it.
    pub keep_rejected: bool,
}

/// How an event's server chose its auth events.
#[derive(Clone, Copy, PartialEq)]
pub enum AuthTrick {
    /// As it ought to.
    Honest,
    /// One is left out.
    Omit(usize),
    /// One is taken from the state after another step.
    Stale(usize, usize),
}

/// What was compared.
#[derive(Default, Clone, Copy)]
pub struct Count {
    /// Merges of states that differ.
    pub merges: usize,
    /// Decisions about an event by a state.
    pub decisions: usize,
}

impl Count {
    pub fn add(&mut self, other: Self) {
        self.merges += other.merges;
        self.decisions += other.decisions;
    }
}

impl Scenario {
    /// Plays it; the error says where we differ from somebody.
    pub fn play(&self) -> Result<Count, String> {
        Player::new(self).play(&self.steps).map(|(count, _)| count)
    }

    /// The smallest history found that still shows a difference.
    pub fn shrink(mut self) -> Self {
        let mut size = self.steps.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < self.steps.len() {
                let mut smaller = self.clone();
                smaller
                    .steps
                    .drain(at..(at + size).min(smaller.steps.len()));
                if smaller.play().is_err() {
                    self = smaller;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
        for at in 0..self.steps.len() {
            let plain = |step: &mut Step| step.auth = AuthTrick::Honest;
            let straight = |step: &mut Step| step.after.truncate(1);
            let whole = |step: &mut Step| step.mangled = false;
            for change in [&plain as &dyn Fn(&mut Step), &straight, &whole] {
                let mut simpler = self.clone();
                change(&mut simpler.steps[at]);
                if simpler.play().is_err() {
                    self = simpler;
                }
            }
        }
        self
    }

    /// The history in words, and what is wrong.
    pub fn tell(&self) -> String {
        let mut story = format!(
            "version {}, a {} room\n",
            self.version,
            if self.lively { "lively" } else { "bare" }
        );
        for step in &self.steps {
            let what = &step.what;
            let _ = write!(
                story,
                "{:>3} after {:?} at {}: {} sends {} {:?} {}",
                step.name, step.after, step.ts, step.sender, what.kind, what.key, what.content
            );
            match step.auth {
                AuthTrick::Honest => {}
                AuthTrick::Omit(which) => {
                    let _ = write!(story, ", auth event {which} left out");
                }
                AuthTrick::Stale(which, of) => {
                    let _ = write!(story, ", auth event {which} as after {of}");
                }
            }
            if step.mangled {
                story.push_str(", mangled");
            }
            story.push('\n');
        }
        if let Err(difference) = self.play() {
            story.push_str(&difference);
        }
        story
    }
}

struct Player {
    room: Room,
    version: u32,
    tame: bool,
    /// The kept events by the steps' names, in order; 0 is the room's beginning.
    kept: Vec<(usize, OwnedEventId)>,
    count: Count,
}

impl Player {
    fn new(scenario: &Scenario) -> Self {
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
            let last = room.chain(
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

    fn play(mut self, steps: &[Step]) -> Result<(Count, Room), String> {
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
