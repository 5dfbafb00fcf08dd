//! Policy servers that don't answer: nobody waits for them again and again, nor for ever.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{OwnedServerName, ServerName};

/// The longest that one is left alone: people wait for it.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// So long messages of others wait for one. After that they are taken as it hadn't signed them.
const PATIENCE: Duration = Duration::from_hours(1);
/// If nobody asked it for so long, nothing is known of it any more.
const FORGOTTEN: Duration = Duration::from_mins(10);
/// How many are remembered. If it were more, all are asked again.
const MAX_REMEMBERED: usize = 10_000;

/// Those that haven't answered lately. Times are the store's monotonic clock's.
#[derive(Debug, Default)]
pub(super) struct Silent(Mutex<HashMap<OwnedServerName, Silence>>);

#[derive(Debug, Clone, Copy)]
struct Silence {
    since: Duration,
    last: Duration,
    failures: u32,
    /// Until then it is left alone.
    rests: Duration,
}

impl Silent {
    fn all(&self) -> MutexGuard<'_, HashMap<OwnedServerName, Silence>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much longer it is to be left alone.
    pub(super) fn rest_of(&self, server: &ServerName, now: Duration) -> Option<Duration> {
        let rests = self.all().get(server)?.rests;
        rests.checked_sub(now).filter(|rest| !rest.is_zero())
    }

    /// Whether it has been silent for longer than anybody waits for it.
    pub(super) fn is_given_up(&self, server: &ServerName, now: Duration) -> bool {
        let all = self.all();
        all.get(server).is_some_and(|silence| {
            now.saturating_sub(silence.since) >= PATIENCE
                && now.saturating_sub(silence.last) < FORGOTTEN
        })
    }

    /// It answered, whatever.
    pub(super) fn answered(&self, server: &ServerName) {
        self.all().remove(server);
    }

    /// It didn't. It is left alone: for `first`, then twice as long each time.
    pub(super) fn failed(&self, server: &ServerName, now: Duration, first: Duration) {
        let mut all = self.all();
        if all.len() >= MAX_REMEMBERED && !all.contains_key(server) {
            all.clear();
        }
        let new = Silence {
            since: now,
            last: now,
            failures: 0,
            rests: now,
        };
        let silence = all.entry(server.to_owned()).or_insert(new);
        if now.saturating_sub(silence.last) >= FORGOTTEN {
            *silence = new;
        }
        silence.last = now;
        // Several questions that were under way at once are one failure.
        if silence.rests > now {
            return;
        }
        let rest = first.saturating_mul(1 << silence.failures.min(16));
        silence.failures = silence.failures.saturating_add(1);
        silence.rests = now + rest.min(LONGEST_REST);
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_is_silent_is_left_alone_and_given_up_in_the_end() {
        let (silent, far) = (Silent::default(), server_name!("far.org"));
        assert_eq!(silent.rest_of(far, SECOND), None);
        silent.failed(far, SECOND, 2 * SECOND);
        silent.failed(far, SECOND, 2 * SECOND);
        assert_eq!(silent.rest_of(far, SECOND), Some(2 * SECOND));
        assert_eq!(silent.rest_of(far, 3 * SECOND), None);
        let mut now = 3 * SECOND;
        while now < PATIENCE {
            silent.failed(far, now, 2 * SECOND);
            assert!(!silent.is_given_up(far, now), "{now:?}");
            let rest = silent.rest_of(far, now).unwrap();
            assert!(rest <= LONGEST_REST);
            now += rest;
        }
        silent.failed(far, now + SECOND, 2 * SECOND);
        assert!(silent.is_given_up(far, now + SECOND));
        silent.answered(far);
        assert!(!silent.is_given_up(far, now + SECOND));
        assert_eq!(silent.rest_of(far, now), None);
    }

    /// Two failures of which nobody knows what was between them are no silence.
    #[test]
    fn an_old_failure_is_forgotten() {
        let (silent, far) = (Silent::default(), server_name!("far.org"));
        silent.failed(far, SECOND, SECOND);
        let later = 2 * PATIENCE;
        assert!(!silent.is_given_up(far, later));
        silent.failed(far, later, SECOND);
        assert!(!silent.is_given_up(far, later));
        assert_eq!(silent.rest_of(far, later), Some(SECOND));
    }
}
