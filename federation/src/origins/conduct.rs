//! How a server conducts itself, and when it is put into quarantine.
//!
//! Only what is surely a server's own fault counts against it: events of its own users that it sent itself into rooms that it is
//! in, and that have no event's form or a signature that its own key, which is known and valid, hasn't made. What it passes on
//! for others doesn't, and neither do keys that can't be had: nobody can bring a server into quarantine but the server. Half of
//! what was counted is forgotten after a while, and a server whose events are mostly in order is never put there.

use std::time::Duration;

/// After this time half of what was counted counts no more.
const HALF_LIFE: Duration = Duration::from_mins(10);
/// So many that can't be verified, and more than those that can, are enough.
const ENOUGH: f64 = 50.0;
/// The first time in quarantine, doubled each time, and the longest.
const FIRST_TERM: Duration = Duration::from_mins(5);
const LONGEST_TERM: Duration = Duration::from_hours(6);
/// For so long after the end of one it is remembered how many there were.
const REMEMBERED: Duration = Duration::from_hours(24);

/// What is known of a server's conduct. All times are since any moment, the same.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Conduct {
    bad: f64,
    good: f64,
    /// When this was so.
    at: Duration,
    /// Until when it is in quarantine, or was; how often.
    until: Duration,
    terms: u32,
}

impl Conduct {
    /// Events of its own users were verified, or couldn't be by its fault. If that puts it into quarantine: for how long.
    pub(crate) fn note(&mut self, good: u32, bad: u32, now: Duration) -> Option<Duration> {
        if self.is_quarantined(now) {
            // What was under way when it began.
            return None;
        }
        let passed = now.saturating_sub(self.at).as_secs_f64();
        let left = (-passed / HALF_LIFE.as_secs_f64()).exp2();
        self.good = self.good * left + f64::from(good);
        self.bad = self.bad * left + f64::from(bad);
        self.at = now;
        if bad == 0 || self.bad < ENOUGH || self.bad <= self.good {
            return None;
        }
        if now.saturating_sub(self.until) > REMEMBERED {
            self.terms = 0;
        }
        let term = FIRST_TERM
            .saturating_mul(1 << self.terms.min(16))
            .min(LONGEST_TERM);
        *self = Self {
            until: now + term,
            terms: self.terms.saturating_add(1),
            at: now,
            ..Self::default()
        };
        Some(term)
    }

    pub(crate) fn is_quarantined(&self, now: Duration) -> bool {
        now < self.until
    }

    /// Whether forgetting it would change nothing.
    pub(crate) fn is_forgettable(&self, now: Duration) -> bool {
        let is_old = now.saturating_sub(self.at) > 8 * HALF_LIFE;
        let is_clean = self.bad < 1.0 || is_old;
        let was_never = self.terms == 0 || now.saturating_sub(self.until) > REMEMBERED;
        is_clean && was_never && !self.is_quarantined(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(99);

    #[test]
    fn again_and_again_is_enough_and_it_ends_by_itself() {
        let mut conduct = Conduct::default();
        assert!(conduct.is_forgettable(NOW));
        assert_eq!(conduct.note(0, 49, NOW), None);
        assert!(!conduct.is_forgettable(NOW));
        assert_eq!(conduct.note(0, 1, NOW), Some(FIRST_TERM));
        assert!(conduct.is_quarantined(NOW));
        assert_eq!(conduct.note(0, 99, NOW), None, "it is there already");
        let end = NOW + FIRST_TERM;
        assert!(!conduct.is_quarantined(end));
        assert_eq!(conduct.note(0, 49, end), None, "it begins anew");
        // The next is twice as long, up to a bound.
        let (mut now, mut last) = (end, FIRST_TERM);
        for _ in 0..40 {
            let term = conduct.note(0, 50, now).unwrap();
            assert_eq!(term, (2 * last).min(LONGEST_TERM));
            (now, last) = (now + term, term);
        }
        // Who behaves for a day begins at the beginning.
        let later = now + REMEMBERED + Duration::from_secs(1);
        assert!(conduct.is_forgettable(later));
        assert_eq!(conduct.note(0, 50, later), Some(FIRST_TERM));
    }

    #[test]
    fn an_odd_event_now_and_then_is_forgiven() {
        let mut conduct = Conduct::default();
        // For a day three a minute, which is less than what is forgotten.
        for minute in 0..24 * 60 {
            let now = NOW + Duration::from_mins(minute);
            assert_eq!(conduct.note(0, 3, now), None, "{minute}");
        }
        // A server on which something is broken, and which else is as it should be.
        let mut conduct = Conduct::default();
        for _ in 0..100 {
            assert_eq!(conduct.note(60, 50, NOW), None);
        }
    }

    proptest! {
        /// Whatever comes when: nobody is there for longer than the longest term, who has sent nothing wrong never is, and
        /// nobody to whom nothing more is said stays there.
        #[test]
        fn quarantines_are_bounded(
            steps in prop::collection::vec((0_u32..200, 0_u32..200, 0_u64..100_000), 0..200),
        ) {
            let (mut bad, mut clean) = (Conduct::default(), Conduct::default());
            let mut now = Duration::ZERO;
            for (good, wrong, pause) in steps {
                if let Some(term) = bad.note(good, wrong, now) {
                    prop_assert!(term >= FIRST_TERM && term <= LONGEST_TERM && wrong > 0);
                    prop_assert!(bad.is_quarantined(now));
                    prop_assert!(!bad.is_quarantined(now + term));
                }
                prop_assert_eq!(clean.note(good, 0, now), None);
                now += Duration::from_secs(pause);
            }
            prop_assert!(!bad.is_quarantined(now + LONGEST_TERM));
            prop_assert!(bad.is_forgettable(now + LONGEST_TERM + 2 * REMEMBERED));
        }
    }
}
