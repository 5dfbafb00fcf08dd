//! How fast updates go out on a socket: pure.

use std::time::Duration;

/// So many frames may go out …
const AT_ONCE: usize = 4;
/// … within this time; what happens after them goes out in one frame at its end.
const WITHIN: Duration = Duration::from_millis(100);

/// When the last frames went out. A conversation is told message by message; a burst is a few frames.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Of each of the last ones when the next in its place may go, the oldest at `oldest`.
    free: [Duration; AT_ONCE],
    oldest: usize,
}

impl Pace {
    /// A frame goes out. Times are of one monotonic clock.
    pub(super) fn sent(&mut self, now: Duration) {
        self.free[self.oldest] = now + WITHIN;
        self.oldest = (self.oldest + 1) % AT_ONCE;
    }

    /// How long the next one has to wait.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        self.free[self.oldest].saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_frames_go_at_once_and_no_more_within_the_time() {
        let ms = Duration::from_millis;
        let mut pace = Pace::default();
        let mut sent = Vec::new();
        let mut now = ms(7);
        // Whoever always has something to tell.
        while now < ms(2_000) {
            let wait = pace.wait(now);
            if wait.is_zero() {
                pace.sent(now);
                sent.push(now);
                now += ms(3);
            } else {
                now += wait;
            }
        }
        assert_eq!(sent[..AT_ONCE], [ms(7), ms(10), ms(13), ms(16)]);
        for frames in sent.windows(AT_ONCE + 1) {
            assert!(frames[AT_ONCE] >= frames[0] + WITHIN, "{frames:?}");
        }
        assert!(sent.len() > 70, "{}", sent.len());
        // Who tells something now and then never waits.
        for _ in 0..50 {
            now += ms(26);
            assert_eq!(pace.wait(now), Duration::ZERO);
            pace.sent(now);
        }
    }
}
