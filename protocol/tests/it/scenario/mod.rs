//! A room's history as data: what it takes to play it again, to make it smaller, and to tell it.

mod player;

use std::fmt::Write as _;

use crate::room::What;
use player::Player;

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
