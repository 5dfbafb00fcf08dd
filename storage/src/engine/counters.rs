//! What the store has done so far, for tests that assert costs and for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::timings::Timings;

/// Counts since the store was opened. Relaxed: each is exact, two need not fit together.
#[derive(Debug, Default)]
pub struct Counters {
    queries: AtomicU64,
    transactions: AtomicU64,
    groups: AtomicU64,
    write_sets: AtomicU64,
    refused: AtomicU64,
    wake_ups: AtomicU64,
    waits: AtomicU64,
    event_reads: AtomicU64,
    polls: AtomicU64,
    collected: AtomicU64,
    reader_failures: AtomicU64,
    turns: AtomicU64,
    errors: AtomicU64,
    timings: Timings,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Statements sent to the database, `BEGIN`, `COMMIT` and `polls` not counted.
    pub queries: u64,
    /// Transactions committed, each at least one fsync: groups and the plain writes beside them.
    pub transactions: u64,
    /// Transactions that the commit queue has committed.
    pub groups: u64,
    /// Write sets that these groups held.
    pub write_sets: u64,
    /// Write sets refused.
    pub refused: u64,
    /// Waiters woken because of a log entry or a typing change.
    pub wake_ups: u64,
    /// Times that a reader who had read everything began to wait.
    pub waits: u64,
    /// Events that were read from the database because no cache had them.
    pub event_reads: u64,
    /// Looks for what other processes have committed: one small statement each, by the clock.
    pub polls: u64,
    /// Snapshots of state that were deleted because nothing referred to them.
    pub collected: u64,
    /// How often a reader of the log failed and began again.
    pub reader_failures: u64,
    /// How often a room was locked before something was decided.
    pub turns: u64,
    /// How often the database failed at a statement or a COMMIT, rows that were there already not counted.
    pub errors: u64,
}

impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            queries: self.queries - before.queries,
            transactions: self.transactions - before.transactions,
            groups: self.groups - before.groups,
            write_sets: self.write_sets - before.write_sets,
            refused: self.refused - before.refused,
            wake_ups: self.wake_ups - before.wake_ups,
            waits: self.waits - before.waits,
            event_reads: self.event_reads - before.event_reads,
            polls: self.polls - before.polls,
            collected: self.collected - before.collected,
            reader_failures: self.reader_failures - before.reader_failures,
            turns: self.turns - before.turns,
            errors: self.errors - before.errors,
        }
    }
}

macro_rules! add {
    ($($name:ident),*) => {
        $(pub(crate) fn $name(&self, count: usize) {
            self.$name.fetch_add(count as u64, Ordering::Relaxed);
        })*
    };
}

impl Counters {
    add!(
        queries,
        transactions,
        groups,
        write_sets,
        refused,
        wake_ups,
        waits,
        event_reads,
        polls,
        collected,
        reader_failures,
        turns,
        errors
    );

    /// None so far; with times, if somebody wants to know them.
    pub(crate) fn new(timed: bool) -> Self {
        Self {
            timings: Timings::new(timed),
            ..Self::default()
        }
    }

    /// How long things take.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// The counts now; subtract two to get what happened between.
    pub fn now(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            queries: read(&self.queries),
            transactions: read(&self.transactions),
            groups: read(&self.groups),
            write_sets: read(&self.write_sets),
            refused: read(&self.refused),
            wake_ups: read(&self.wake_ups),
            waits: read(&self.waits),
            event_reads: read(&self.event_reads),
            polls: read(&self.polls),
            collected: read(&self.collected),
            reader_failures: read(&self.reader_failures),
            turns: read(&self.turns),
            errors: read(&self.errors),
        }
    }
}
