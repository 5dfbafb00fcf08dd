//! How much a reader takes at a time, and how long it rests after a failure.

use std::time::Duration;

use crate::Pos;

/// Entries of one stretch.
const MOST: usize = 1_000;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Pace {
    limit: usize,
    /// Failures since something was done.
    failures: u32,
    /// Where the last stretch failed, and how often one has there.
    failing: Option<(Pos, u32)>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            limit: MOST,
            failures: 0,
            failing: None,
        }
    }
}

impl Pace {
    /// How many entries to take.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// How often a stretch after this position has failed.
    pub(super) fn failures_after(&self, after: Pos) -> u32 {
        self.failing
            .filter(|(at, _)| *at == after)
            .map_or(0, |(_, times)| times)
    }

    /// A stretch is done.
    pub(super) fn done(&mut self) {
        self.failures = 0;
        self.failing = None;
        self.limit = (self.limit * 2).min(MOST);
    }

    /// A stretch of so many entries after this position has failed.
    pub(super) fn failed(&mut self, after: Pos, entries: usize) {
        self.failing = Some((after, self.failures_after(after).saturating_add(1)));
        self.limit = (entries / 2).max(1);
    }

    /// How long to rest after one more failure of any kind.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        pause.min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_comes_to_stand_alone_and_waits_longer_each_time() {
        let mut pace = Pace::default();
        let mut pauses = Vec::new();
        for times in 0..12 {
            assert_eq!(pace.failures_after(Pos(7)), times);
            pace.failed(Pos(7), pace.limit());
            pauses.push(pace.pause().as_millis());
        }
        assert_eq!(pace.limit(), 1);
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[11], 30_000);
        assert_eq!(pace.failures_after(Pos(8)), 0);
        pace.done();
        assert_eq!((pace.limit(), pace.failures_after(Pos(7))), (2, 0));
        assert_eq!(pace.pause(), FIRST_PAUSE);
    }
}
