//! Wall and monotonic time that tests can hold and advance.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// A handle on the time; clones share it.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System { started: Instant, wall: SystemTime },
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    start_ms: i64,
    elapsed: watch::Sender<Duration>,
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System {
            started: Instant::now(),
            wall: SystemTime::now(),
        })
    }

    /// A clock that stands at `start_ms` (milliseconds since 1970) until [`Clock::advance`].
    pub fn manual(start_ms: i64) -> Self {
        Self(Source::Manual(Arc::new(Manual {
            start_ms,
            elapsed: watch::Sender::new(Duration::ZERO),
        })))
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System { .. } => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, millis),
            Source::Manual(manual) => manual.start_ms + millis(*manual.elapsed.borrow()),
        }
    }

    /// What a clock that is held says. It stands in for the database's, too, where that is what counts.
    pub(crate) fn manual_ms(&self) -> Option<i64> {
        match &self.0 {
            Source::System { .. } => None,
            Source::Manual(_) => Some(self.now_ms()),
        }
    }

    /// Time since the clock was made; never goes back.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { started, .. } => started.elapsed(),
            Source::Manual(manual) => *manual.elapsed.borrow(),
        }
    }

    /// How far the time of day and the time that went by have moved apart since the clock was made: somebody has set it.
    pub(crate) fn drift(&self) -> Duration {
        match &self.0 {
            Source::System { started, wall } => {
                let passed = started.elapsed();
                match wall.elapsed() {
                    Ok(told) => told.abs_diff(passed),
                    Err(back) => back.duration() + passed,
                }
            }
            Source::Manual(_) => Duration::ZERO,
        }
    }

    /// Waits for `duration` of this clock's time.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.monotonic() + duration).await;
    }

    /// Waits until [`Clock::monotonic`] has come to `until`: for who has looked at the clock before other things.
    pub async fn sleep_until(&self, until: Duration) {
        match &self.0 {
            Source::System { started, .. } => {
                tokio::time::sleep(until.saturating_sub(started.elapsed())).await;
            }
            Source::Manual(manual) => {
                let mut elapsed = manual.elapsed.subscribe();
                // The sender lives as long as `self`, so this ends only when the time has come.
                let _ = elapsed.wait_for(|now| *now >= until).await;
            }
        }
    }

    /// Moves a manual clock on; a system clock doesn't move.
    pub fn advance(&self, duration: Duration) {
        if let Source::Manual(manual) = &self.0 {
            manual.elapsed.send_modify(|elapsed| *elapsed += duration);
        }
    }
}

/// A duration in whole milliseconds, in the type of moments.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers_when_it_is_advanced() {
        let clock = Clock::manual(1_000);
        let sleeper = clock.clone();
        let task = tokio::spawn(async move { sleeper.sleep(Duration::from_secs(5)).await });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(4));
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        clock.advance(Duration::from_secs(1));
        task.await.unwrap();
        assert_eq!(clock.now_ms(), 6_000);
    }
}
