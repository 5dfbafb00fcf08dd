//! When to try again, and when no more.

use std::time::Duration;

/// How long to wait after failures. Pure: who keeps the time asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure; it doubles with each further one.
    pub first: Duration,
    /// The longest wait that isn't asked for.
    pub most: Duration,
    /// The longest wait that is asked for by the other side and respected.
    pub most_asked: Duration,
    /// How old a notification is when it is given up.
    pub patience: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            most: Duration::from_hours(1),
            most_asked: Duration::from_hours(24),
            patience: Duration::from_hours(24),
        }
    }
}

impl Backoff {
    /// How long to wait after so many failures in a row, at least as long as the other side asked for. What failed at
    /// the same moment comes back at different ones: by the seed, anything that differs from pusher to pusher, the
    /// wait is up to a quarter longer.
    pub fn delay(&self, failures: u32, asked: Option<Duration>, seed: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let own = self.first.saturating_mul(1 << doublings).min(self.most);
        let asked = asked.unwrap_or_default().min(self.most_asked);
        let wait = own.max(asked);
        wait.saturating_add(wait / 1024 * (seed % 256))
    }

    /// Whether a notification of this age is given up, for a wait that would be the next.
    pub fn gives_up(&self, age: Duration, next: Duration) -> bool {
        age.saturating_add(next) >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(failures: u32, asked: Option<u64>) -> u64 {
        let asked = asked.map(Duration::from_secs);
        Backoff::default().delay(failures, asked, 0).as_secs()
    }

    #[test]
    fn waits_double_up_to_an_hour() {
        let waits: Vec<_> = (1..=14).map(|failures| wait(failures, None)).collect();
        assert_eq!(
            waits,
            [
                1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600
            ]
        );
        assert_eq!(wait(0, None), 1);
        assert_eq!(wait(u32::MAX, None), 3600);
    }

    #[test]
    fn what_is_asked_for_counts_if_it_is_longer() {
        assert_eq!(wait(1, Some(120)), 120);
        assert_eq!(wait(13, Some(120)), 3600);
        assert_eq!(wait(1, Some(7200)), 7200);
        assert_eq!(wait(1, Some(u64::MAX)), 24 * 3600);
    }

    #[test]
    fn what_failed_together_comes_back_one_by_one() {
        let backoff = Backoff::default();
        let waits: Vec<_> = (0..1024).map(|seed| backoff.delay(5, None, seed)).collect();
        let sixteen = Duration::from_secs(16);
        assert!(
            waits
                .iter()
                .all(|wait| (sixteen..sixteen * 5 / 4).contains(wait))
        );
        assert!(
            waits
                .iter()
                .collect::<std::collections::BTreeSet<_>>()
                .len()
                > 200
        );
    }

    #[test]
    fn a_notification_is_given_up_after_a_day() {
        let (backoff, hour) = (Backoff::default(), Duration::from_hours(1));
        assert!(!backoff.gives_up(hour, hour));
        assert!(!backoff.gives_up(22 * hour, hour));
        assert!(backoff.gives_up(23 * hour, hour));
        assert!(backoff.gives_up(Duration::MAX, hour));
    }
}
