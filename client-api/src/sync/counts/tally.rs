//! What a user has not read of a room, as a fold over what happens there: pure.
//!
//! The newest events that count are known one by one, so that a receipt anywhere among them, or a redaction, takes
//! away just what it should. Of older ones there are only numbers by thread; what would change some of them, but
//! not all of a thread, makes the tally stale, and it is counted anew.

use std::{collections::BTreeMap, sync::Arc};

use rhizome_storage::Pos;
use ruma::OwnedEventId;

/// Events that are known one by one, at least half of them the newest.
const MOST_MARKS: usize = 64;
/// Threads of which older events are counted; beyond it those that were added first are dropped.
const MOST_THREADS: usize = 100;
/// So many bytes of threads' names weigh as much as a tally of the main timeline.
const WEIGHT: usize = 3 << 10;
/// Receipts remembered whose events haven't come.
const MOST_UNPLACED: usize = 20;

/// The root of a thread; `None` is the main timeline.
pub type Thread = Option<Arc<str>>;

/// How many events somebody is notified of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub notifications: u32,
    /// Those that are highlighted.
    pub highlights: u32,
}

/// What a user has not read of a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of the main timeline.
    pub main: Count,
    /// Of threads that have something.
    pub threads: BTreeMap<Arc<str>, Count>,
}

/// What a receipt, or an event of the user's own, says is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Room,
    /// A thread, or the main timeline.
    Thread(Thread),
}

/// What happens to a tally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// An event notifies.
    Unread {
        /// Where it stands.
        pos: Pos,
        /// Its thread.
        thread: Thread,
        /// Whether it is highlighted.
        highlight: bool,
    },
    /// Something is read up to there.
    Read(Scope, Pos),
    /// An event is redacted.
    Redacted(Pos),
    /// What was read by an event isn't, as that is redacted.
    Anew,
    /// A receipt names an event that isn't there yet.
    Awaits(OwnedEventId, Scope),
    /// An event has come that a receipt may have named before.
    Came(OwnedEventId, Pos),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) pos: Pos,
    pub(super) thread: Thread,
    pub(super) highlight: bool,
}

/// A user's tally of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// As of where.
    pub upto: Pos,
    /// Since when the user has been in the room.
    pub since: Pos,
    /// Where the last change of what they want to be notified of stands.
    pub rules: Pos,
    /// Unread events by position, ascending.
    pub(super) marks: Vec<Mark>,
    /// How many there are before those, by thread, …
    pub(super) older: Vec<(Thread, Count)>,
    /// … between which positions.
    pub(super) span: (Pos, Pos),
    pub(super) awaited: Vec<(OwnedEventId, Scope)>,
    pub(super) stale: bool,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.notifications = self.notifications.saturating_add(other.notifications);
        self.highlights = self.highlights.saturating_add(other.highlights);
    }
}

impl Counts {
    /// Of the whole room.
    pub fn whole(&self) -> Count {
        let mut whole = self.main;
        for count in self.threads.values() {
            whole.add(*count);
        }
        whole
    }

    fn add(&mut self, thread: &Thread, count: Count) {
        match thread {
            None => self.main.add(count),
            Some(root) => self.threads.entry(root.clone()).or_default().add(count),
        }
    }
}

impl Step {
    /// Whether it is of a redaction.
    pub fn is_redaction(&self) -> bool {
        matches!(self, Self::Redacted(_) | Self::Anew)
    }

    /// Whether it may change what a tally weighs much; a message of the main timeline doesn't.
    pub fn changes_weight(&self) -> bool {
        !matches!(self, Self::Unread { thread: None, .. })
    }
}

impl Mark {
    fn count(&self) -> Count {
        Count {
            notifications: 1,
            highlights: self.highlight.into(),
        }
    }
}

impl Scope {
    /// The scope of a receipt with this `thread_id`.
    pub fn of_receipt(thread: Option<&str>) -> Self {
        match thread {
            None => Self::Room,
            Some("main") => Self::Thread(None),
            Some(root) => Self::Thread(Some(root.into())),
        }
    }

    /// Whether a thread is in it.
    pub fn has(&self, thread: &Thread) -> bool {
        match self {
            Self::Room => true,
            Self::Thread(own) => own == thread,
        }
    }
}

impl Tally {
    /// Nothing unread yet.
    pub fn new(since: Pos, rules: Pos) -> Self {
        Self {
            upto: since,
            since,
            rules,
            marks: Vec::new(),
            older: Vec::new(),
            span: (Pos(0), Pos(0)),
            awaited: Vec::new(),
            stale: false,
        }
    }

    /// Whether it must be counted anew.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Whether receipts name events that aren't there yet.
    pub fn awaits(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// What it weighs in a cache: 1, and more by what others have named threads and events.
    pub fn weight(&self) -> usize {
        let named = |thread: &Thread| thread.as_deref().map_or(0, str::len);
        let older = self.older.iter().map(|(thread, _)| named(thread));
        let marks = self.marks.iter().map(|mark| named(&mark.thread));
        let awaited = self.awaited.iter().map(|(event, scope)| {
            event.as_str().len()
                + match scope {
                    Scope::Room => 0,
                    Scope::Thread(thread) => named(thread),
                }
        });
        1 + older.chain(marks).chain(awaited).sum::<usize>() / WEIGHT
    }

    /// Whether an event that notifies is unread.
    pub fn has(&self, pos: Pos, thread: &Thread) -> bool {
        if pos > self.span.1 {
            return self.marks.iter().any(|mark| mark.pos == pos);
        }
        pos >= self.span.0 && self.older.iter().any(|(older, _)| older == thread)
    }

    /// The counts.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (thread, count) in &self.older {
            counts.add(thread, *count);
        }
        for mark in &self.marks {
            counts.add(&mark.thread, mark.count());
        }
        counts
    }

    /// Takes a step.
    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Unread {
                pos,
                thread,
                highlight,
            } => self.mark(Mark {
                pos: *pos,
                thread: thread.clone(),
                highlight: *highlight,
            }),
            Step::Read(scope, upto) => self.read(scope, *upto),
            Step::Redacted(pos) => {
                if *pos > self.span.1 {
                    self.marks.retain(|mark| mark.pos != *pos);
                } else if !self.older.is_empty() && *pos >= self.span.0 {
                    self.stale = true;
                }
            }
            Step::Anew => self.stale = true,
            Step::Awaits(event, scope) => {
                let new = (event.clone(), scope.clone());
                self.awaited.retain(|known| *known != new);
                if self.awaited.len() == MOST_UNPLACED {
                    self.awaited.remove(0);
                }
                self.awaited.push(new);
            }
            Step::Came(event, pos) => {
                let named = self.awaited.extract_if(.., |(awaited, _)| awaited == event);
                for (_, scope) in named.collect::<Vec<_>>() {
                    self.read(&scope, *pos);
                }
            }
        }
    }

    fn mark(&mut self, mark: Mark) {
        if self.marks.len() == MOST_MARKS {
            for old in self.marks.drain(..MOST_MARKS / 2) {
                if self.older.is_empty() {
                    self.span.0 = old.pos;
                }
                self.span.1 = old.pos;
                let count = old.count();
                match self
                    .older
                    .iter_mut()
                    .find(|(thread, _)| *thread == old.thread)
                {
                    Some((_, known)) => known.add(count),
                    None => self.older.push((old.thread, count)),
                }
            }
            let over = self.older.len().saturating_sub(MOST_THREADS);
            self.older.drain(..over);
        }
        self.marks.push(mark);
    }

    fn read(&mut self, scope: &Scope, upto: Pos) {
        let unread = |mark: &Mark| mark.pos > upto || !scope.has(&mark.thread);
        self.marks.retain(unread);
        if upto >= self.span.1 {
            self.older.retain(|(thread, _)| !scope.has(thread));
        } else if upto >= self.span.0 && self.older.iter().any(|(thread, _)| scope.has(thread)) {
            self.stale = true;
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn unread(pos: i64, thread: &str) -> Step {
        Step::Unread {
            pos: Pos(pos),
            thread: Some(thread)
                .filter(|thread| !thread.is_empty())
                .map(Arc::from),
            highlight: pos % 3 == 0,
        }
    }

    pub fn tally(events: i64) -> Tally {
        let mut tally = Tally::new(Pos(0), Pos(0));
        for pos in 1..=events {
            tally.take(&unread(pos, if pos % 2 == 0 { "" } else { "$root" }));
        }
        tally
    }

    fn of(tally: &Tally) -> (u32, u32, u32) {
        let counts = tally.counts();
        let threads = counts.threads.values().map(|count| count.notifications);
        (
            counts.main.notifications,
            threads.sum(),
            counts.whole().highlights,
        )
    }

    #[test]
    fn receipts_take_away_what_they_name() {
        let mut tally = tally(9);
        assert_eq!(of(&tally), (4, 5, 3));
        tally.take(&Step::Read(Scope::of_receipt(Some("main")), Pos(4)));
        assert_eq!(of(&tally), (2, 5, 3));
        tally.take(&Step::Read(Scope::of_receipt(Some("$root")), Pos(3)));
        assert_eq!(of(&tally), (2, 3, 2));
        tally.take(&Step::Redacted(Pos(9)));
        assert_eq!(of(&tally), (2, 2, 1));
        tally.take(&Step::Read(Scope::Room, Pos(7)));
        assert_eq!(of(&tally), (1, 0, 0));
        tally.take(&Step::Awaits("$late".try_into().unwrap(), Scope::Room));
        tally.take(&unread(10, ""));
        tally.take(&Step::Came("$late".try_into().unwrap(), Pos(10)));
        assert_eq!(tally.counts(), Counts::default());
    }

    #[test]
    fn long_names_of_threads_weigh() {
        assert_eq!(tally(200).weight(), 1);
        let mut long = Tally::new(Pos(0), Pos(0));
        for pos in 1..=200 {
            long.take(&unread(pos, &format!("${pos:0>254}")));
        }
        let threads = long.marks.len() + long.older.len();
        assert_eq!(long.weight(), 1 + threads * 255 / WEIGHT);
        assert!(threads > MOST_THREADS && long.weight() > 10);
        long.take(&Step::Read(Scope::Room, Pos(200)));
        assert_eq!(long.weight(), 1);
        for n in 0..MOST_UNPLACED {
            let event = format!("${n:0>254}").try_into().unwrap();
            let step = Step::Awaits(event, Scope::of_receipt(Some(&"r".repeat(255))));
            assert!(step.changes_weight());
            long.take(&step);
        }
        assert_eq!(long.weight(), 1 + MOST_UNPLACED * 510 / WEIGHT);
        assert!(unread(1, "$root").changes_weight() && !unread(1, "").changes_weight());
    }

    #[test]
    fn what_is_old_is_only_counted_and_read_as_a_whole_or_counted_anew() {
        let long = tally(200);
        assert!(long.marks.len() <= MOST_MARKS && long.older.len() == 2);
        assert_eq!(of(&long), (100, 100, 66));
        let mut whole = long.clone();
        whole.take(&Step::Read(Scope::of_receipt(Some("main")), Pos(199)));
        assert_eq!((of(&whole), whole.is_stale()), ((1, 100, 66 - 33), false));
        let mut part = long.clone();
        part.take(&Step::Read(Scope::of_receipt(Some("$other")), Pos(20)));
        assert_eq!((of(&part), part.is_stale()), ((100, 100, 66), false));
        part.take(&Step::Read(Scope::of_receipt(Some("main")), Pos(20)));
        assert!(part.is_stale());
        let mut redacted = long;
        redacted.take(&Step::Redacted(Pos(5)));
        assert!(redacted.is_stale());
    }
}
