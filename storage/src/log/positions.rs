//! Positions of what is in memory only: one sequence for typing and presence, of each process its own. What readers hold
//! is how far they have [`Heard`] each process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::engine::lock;
use crate::log::outbox::{Outbox, Said};

/// A process that has been silent for so long isn't there any more: others say something every few seconds.
const GONE: Duration = Duration::from_mins(5);
/// Of the processes that a reader has heard of, how many may be unknown where they ask.
const MOST_UNKNOWN: usize = 8;

/// A process among several on one database. The only one of a database that has no others is [`ProcessId::ONLY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProcessId(pub u32);

impl ProcessId {
    /// There are no others.
    pub const ONLY: Self = Self(0);
}

/// Up to which of its positions each process was heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard(BTreeMap<ProcessId, i64>);

impl Heard {
    /// How many processes a reader may have heard of, and a process knows with itself.
    pub const MOST: usize = 32;

    /// One process alone.
    pub fn only(process: ProcessId, position: i64) -> Self {
        Self(BTreeMap::from([(process, position)]))
    }

    /// Whether nothing was heard of anybody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many processes were heard.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Up to where a process was heard: 0 if it wasn't.
    pub fn of(&self, process: ProcessId) -> i64 {
        self.0.get(&process).copied().unwrap_or_default()
    }

    /// A process was heard up to there, and no less far than before.
    pub fn note(&mut self, process: ProcessId, position: i64) {
        let known = self.0.entry(process).or_insert(position);
        *known = position.max(*known);
    }

    /// A process was heard up to there and no further.
    pub fn set(&mut self, process: ProcessId, position: i64) {
        self.0.insert(process, position);
    }

    /// Whether there is something in this that another hasn't heard.
    pub fn exceeds(&self, other: &Self) -> bool {
        let mut all = self.0.iter();
        all.any(|(process, position)| *position > other.of(*process))
    }

    /// The processes and positions, at most so many as a reader may have heard of.
    pub fn all(&self) -> impl Iterator<Item = (ProcessId, i64)> {
        let all = self.0.iter().take(Self::MOST);
        all.map(|(process, position)| (*process, *position))
    }

    /// The highest of the positions.
    pub fn highest(&self) -> i64 {
        self.0.values().copied().max().unwrap_or_default()
    }

    /// This, and what was heard before from another process: of those who aren't known here, they that were heard last. So
    /// nobody is told twice what another process has told, nor are those remembered who are gone.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        let mut unknown = Vec::new();
        for (process, position) in &before.0 {
            match self.0.get_mut(process) {
                Some(known) => *known = (*known).max(*position),
                None => unknown.push((*position, *process)),
            }
        }
        unknown.sort_unstable();
        let most = Self::MOST.saturating_sub(self.0.len()).min(MOST_UNKNOWN);
        let last = unknown.into_iter().rev().take(most);
        self.0
            .extend(last.map(|(position, process)| (process, position)));
        self
    }

    /// Whether another names all processes that this does.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        let mut all = self.0.keys();
        all.all(|process| other.0.contains_key(process))
    }

    /// What changed at processes that aren't `known` any more has changed at this `process`, at a position of its own: whoever
    /// asks can have heard of that.
    pub(crate) fn adopt(&mut self, known: &Self, process: ProcessId, position: i64) {
        let before = self.0.len();
        self.0.retain(|other, _| known.0.contains_key(other));
        if self.0.len() < before {
            self.note(process, position);
        }
    }
}

/// A sequence; clones share it.
///
/// A stream takes a position while it holds the lock on what it changes. So whoever reads the head, and then the
/// stream, finds everything that has a position up to that head. What another process says goes into the stream before
/// it counts as heard. Positions of processes that hear of each other are comparable: who hears of one goes on above it.
#[derive(Debug, Clone)]
pub(crate) struct Positions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    process: ProcessId,
    head: AtomicI64,
    /// Other processes: how far they were heard, and when.
    others: Mutex<Others>,
    outbox: Outbox,
}

type Others = BTreeMap<ProcessId, (i64, Instant)>;

impl Positions {
    /// A sequence of a process that goes on after `head`.
    pub(crate) fn new(process: ProcessId, head: i64) -> Self {
        Self(Arc::new(Inner {
            process,
            head: AtomicI64::new(head),
            others: Mutex::default(),
            outbox: Outbox::default(),
        }))
    }

    /// Whose it is.
    pub(crate) fn process(&self) -> ProcessId {
        self.0.process
    }

    /// What others are to be told.
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }

    /// The last position that was taken.
    pub(crate) fn head(&self) -> i64 {
        self.0.head.load(Ordering::Acquire)
    }

    /// Takes the next one.
    pub(crate) fn next(&self) -> i64 {
        self.0.head.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Takes the next one for something that other processes are told, in the order of the positions.
    pub(crate) fn tell(&self, said: impl FnOnce() -> Said) -> i64 {
        if !self.has_others() {
            return self.next();
        }
        self.0.outbox.add(|| self.next(), said)
    }

    /// Whether there are other processes.
    pub(crate) fn has_others(&self) -> bool {
        !self.others().is_empty()
    }

    /// Those who aren't gone.
    fn others(&self) -> MutexGuard<'_, Others> {
        let mut others = lock(&self.0.others);
        others.retain(|_, (_, at)| at.elapsed() < GONE);
        others
    }

    /// How far every process was heard here.
    pub(crate) fn heard(&self) -> Heard {
        let others = self.others();
        let others = others.iter();
        let mut heard = Heard(
            others
                .map(|(process, (position, _))| (*process, *position))
                .collect(),
        );
        heard.set(self.0.process, self.head());
        heard
    }

    /// Goes on above what another process says.
    pub(crate) fn pass(&self, position: i64) {
        self.0.head.fetch_max(position, Ordering::AcqRel);
    }

    /// All that another process has said up to there has been taken in. Whether it wasn't known before. Where there are too
    /// many, the one that has been silent for longest makes room: it is the likeliest to be gone.
    pub(crate) fn hear(&self, process: ProcessId, upto: i64) -> bool {
        let mut others = self.others();
        let known = others.get(&process).map(|(position, _)| *position);
        if known.is_none() && others.len() >= Heard::MOST - 1 {
            let silent = others.iter().min_by_key(|(_, (_, at))| *at);
            let silent = silent.map(|(process, _)| *process);
            if let Some(silent) = silent {
                others.remove(&silent);
            }
        }
        let upto = upto.max(known.unwrap_or(upto));
        others.insert(process, (upto, Instant::now()));
        known.is_none()
    }

    /// Another process is gone.
    #[cfg(test)]
    pub(crate) fn lose(&self, process: ProcessId) {
        self.others().remove(&process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ProcessId = ProcessId(1);
    const TWO: ProcessId = ProcessId(2);

    #[test]
    fn what_one_process_told_another_does_not_tell_again() {
        let at_one = Positions::new(ONE, 100);
        let at_two = Positions::new(TWO, 7);
        let told = at_one.heard();
        assert!(at_two.hear(ONE, 100));
        assert!(!at_two.heard().exceeds(&at_two.heard().after(&told)));
        // The first process never heard of the second: what that has told stays told.
        let next = at_two.heard().after(&told);
        assert_eq!((next.of(ONE), next.of(TWO)), (100, 7));
        assert_eq!(at_one.heard().after(&next), next);
        // One is further than two knows: that isn't taken back.
        let further = Heard::only(ONE, 105);
        assert_eq!(at_two.heard().after(&further).of(ONE), 105);
        assert!(Heard::only(ONE, 106).exceeds(&further));
    }

    #[test]
    fn those_who_are_gone_are_not_remembered_for_ever() {
        let mut before = Heard::default();
        for n in 1..=200 {
            before.note(ProcessId(n), i64::from(n));
        }
        let here = Positions::new(ProcessId(1_000), 1).heard();
        let next = here.after(&before);
        assert_eq!(next.all().count(), 1 + MOST_UNKNOWN);
        assert_eq!((next.of(ProcessId(200)), next.of(ProcessId(1))), (200, 0));
    }

    #[test]
    fn those_who_come_find_room_and_those_who_speak_stay() {
        let here = Positions::new(ProcessId(1_000), 1);
        here.hear(ONE, 1);
        for n in 10..70 {
            assert!(here.hear(ProcessId(n), i64::from(n)), "{n}");
            assert!(!here.hear(ONE, i64::from(n)));
        }
        let heard = here.heard();
        assert_eq!(
            (heard.len(), heard.all().count()),
            (Heard::MOST, Heard::MOST)
        );
        assert_eq!((heard.of(ONE), heard.of(ProcessId(69))), (69, 69));
        assert_eq!(heard.of(ProcessId(10)), 0);
    }

    #[test]
    fn positions_go_on_above_those_that_were_heard() {
        let here = Positions::new(ONE, 3);
        here.pass(9);
        assert_eq!(here.next(), 10);
        here.pass(4);
        assert_eq!(here.next(), 11);
    }
}
