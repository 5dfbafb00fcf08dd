//! How long things take and how large they are, for metrics: a few atomic additions each, and nothing at all where
//! nobody wants to know.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Where the buckets of short times end, microseconds.
const MOMENTS: &[u64] = &[
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];
/// Where those of sizes end.
const SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Counts values by buckets.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what is beyond the last.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What a [`Histogram`] has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The largest value of each bucket, ascending, and how many were in it; the last bucket has `u64::MAX`.
    pub buckets: Vec<(u64, u64)>,
    /// All values together.
    pub sum: u64,
}

impl Observed {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

impl Histogram {
    /// Buckets up to and with each of these ascending bounds, and one for what is beyond.
    pub fn new(bounds: &'static [u64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self {
            bounds,
            buckets,
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn now(&self) -> Observed {
        let ends = self.bounds.iter().copied().chain([u64::MAX]);
        let counts = (self.buckets.iter()).map(|bucket| bucket.load(Ordering::Relaxed));
        Observed {
            buckets: ends.zip(counts).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// What is timed of commits and of those who wait for them.
#[derive(Debug)]
pub struct Timings {
    /// `None`: nothing is timed.
    began: Option<Instant>,
    /// When what is about to be told to readers was committed, as [`Timings::now`] says; 0: not known.
    committed: AtomicU64,
    groups: Histogram,
    commits: Histogram,
    deliveries: Histogram,
}

/// Nothing is timed.
impl Default for Timings {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Timings {
    pub(crate) fn new(on: bool) -> Self {
        Self {
            began: on.then(Instant::now),
            committed: AtomicU64::new(0),
            groups: Histogram::new(SIZES),
            commits: Histogram::new(MOMENTS),
            deliveries: Histogram::new(MOMENTS),
        }
    }

    /// How many write sets each transaction of the commit queue held.
    pub fn groups(&self) -> Observed {
        self.groups.now()
    }

    /// How long each of these took from its beginning to the end of COMMIT, microseconds.
    pub fn commits(&self) -> Observed {
        self.commits.now()
    }

    /// How long it took from the end of COMMIT until a reader that waited for it went on, microseconds.
    pub fn deliveries(&self) -> Observed {
        self.deliveries.now()
    }

    /// Microseconds since some moment, never 0; 0 if nothing is timed.
    pub(crate) fn now(&self) -> u64 {
        self.began.map_or(0, |began| {
            u64::try_from(began.elapsed().as_micros())
                .unwrap_or(u64::MAX)
                .max(1)
        })
    }

    /// A transaction that was begun at that moment, with so many write sets, is committed. Gives when.
    pub(crate) fn committed(&self, begun: u64, write_sets: usize) -> u64 {
        let now = self.now();
        if now != 0 {
            self.groups.observe(write_sets as u64);
            self.commits.observe(now.saturating_sub(begun));
        }
        now
    }

    /// What was committed at that moment is told to readers next.
    pub(crate) fn tells(&self, committed: u64) {
        self.committed.store(committed, Ordering::Relaxed);
    }

    /// When what is told now was committed, or came to be known here.
    pub(crate) fn told(&self) -> u64 {
        if self.began.is_none() {
            return 0;
        }
        match self.committed.swap(0, Ordering::Relaxed) {
            0 => self.now(),
            committed => committed,
        }
    }

    /// A reader that waited goes on, for what was committed at that moment; 0: for something else.
    pub(crate) fn delivered(&self, committed: u64) {
        if committed != 0 {
            let took = self.now().saturating_sub(committed);
            self.deliveries.observe(took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21, 1_000] {
            histogram.observe(value);
        }
        let seen = histogram.now();
        assert_eq!(seen.buckets, [(10, 2), (20, 2), (u64::MAX, 2)]);
        assert_eq!((seen.sum, seen.count()), (1_062, 6));
    }

    #[test]
    fn what_nobody_wants_to_know_is_not_timed() {
        let timings = Timings::default();
        assert_eq!(timings.committed(timings.now(), 3), 0);
        timings.delivered(timings.told());
        assert_eq!(
            (timings.groups().count(), timings.deliveries().count()),
            (0, 0)
        );
    }

    #[test]
    fn a_delivery_counts_from_its_own_commit_and_once() {
        let timings = Timings::new(true);
        let committed = timings.committed(timings.now(), 3);
        timings.tells(committed);
        assert_eq!(timings.told(), committed);
        // What another process has committed counts from when it is known here.
        assert_ne!(timings.told(), 0);
        timings.delivered(committed);
        timings.delivered(0);
        assert_eq!(
            (timings.commits().count(), timings.deliveries().count()),
            (1, 1)
        );
        assert_eq!(timings.groups().sum, 3);
    }
}
