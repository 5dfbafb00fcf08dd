//! When a user gets the next mail.

use std::time::{Duration, SystemTime};

/// How long users are left alone. Pure: who keeps the time asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// How long a message waits to be read before there is a mail about it.
    pub delay: Duration,
    /// The least time between two mails; it doubles with each further one while the user reads nothing.
    pub between: Duration,
    /// The most that it grows to.
    pub most: Duration,
}

/// The last mail that a user got, and how many they got since they last read something. Whoever reads starts anew,
/// without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub at: SystemTime,
    /// How many, with the last one.
    pub in_a_row: u32,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            delay: Duration::from_mins(10),
            between: Duration::from_hours(1),
            most: Duration::from_hours(24),
        }
    }
}

impl Throttle {
    /// When the next mail may go: never before its oldest message has waited, nor too soon after the last mail. A time
    /// in the past is now. What is said to be in the future, as a clock that was wrong has it, counts as now.
    pub fn next(
        &self,
        oldest_unread: SystemTime,
        sent: Option<Sent>,
        now: SystemTime,
    ) -> SystemTime {
        let waited = oldest_unread.min(now) + self.delay;
        let Some(sent) = sent else { return waited };
        waited.max(sent.at.min(now) + self.wait(sent.in_a_row))
    }

    /// How long it is quiet after so many mails that led to nothing.
    fn wait(&self, in_a_row: u32) -> Duration {
        let doublings = in_a_row.saturating_sub(1).min(31);
        self.between.saturating_mul(1 << doublings).min(self.most)
    }
}

impl Sent {
    /// What is to be kept after a mail went out.
    pub fn again(before: Option<Self>, now: SystemTime) -> Self {
        let before = before.map_or(0, |sent| sent.in_a_row);
        Self {
            at: now,
            in_a_row: before.saturating_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn next(oldest: u64, sent: Option<Sent>, now: u64) -> SystemTime {
        Throttle::default().next(at(oldest), sent, at(now))
    }

    #[test]
    fn the_first_mail_comes_ten_minutes_after_the_oldest_message() {
        assert_eq!(next(0, None, 0), at(10 * MINUTE));
        assert_eq!(next(0, None, 5 * HOUR), at(10 * MINUTE));
    }

    #[test]
    fn who_reads_nothing_gets_fewer_and_fewer() {
        let (mut sent, mut now) = (None, 10 * MINUTE);
        let mut hours = Vec::new();
        for _ in 0..8 {
            sent = Some(Sent::again(sent, at(now)));
            let then = next(0, sent, now).duration_since(at(now)).unwrap();
            hours.push(then.as_secs() / HOUR);
            now += then.as_secs();
        }
        assert_eq!(hours, [1, 2, 4, 8, 16, 24, 24, 24]);
    }

    #[test]
    fn a_message_after_a_long_silence_waits_as_the_first_one_did() {
        let sent = Some(Sent::again(None, at(0)));
        assert_eq!(next(3 * HOUR, sent, 3 * HOUR), at(3 * HOUR + 10 * MINUTE));
    }

    #[test]
    fn who_reads_starts_anew() {
        let mut sent = None;
        for day in 0..9 {
            sent = Some(Sent::again(sent, at(24 * HOUR * day)));
        }
        assert_eq!(sent.map(|sent| sent.in_a_row), Some(9));
        let first = Sent::again(None, at(300 * HOUR));
        assert_eq!(next(300 * HOUR, Some(first), 300 * HOUR), at(301 * HOUR));
    }

    #[test]
    fn a_clock_that_was_wrong_delays_by_a_day_at_most() {
        let sent = Some(Sent {
            at: at(10_000 * HOUR),
            in_a_row: u32::MAX,
        });
        assert_eq!(next(20_000 * HOUR, sent, HOUR), at(25 * HOUR));
    }
}
