//! How other servers have been lately when they were asked for what is missing, and how often they may be.
//!
//! Any server that is in a room can make us look for things: by events that build on what nobody has. So what one
//! server causes is counted, most strictly where others are asked for it; and who doesn't answer is left alone.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{OwnedServerName, ServerName};

use rhizome_edge::limits::{Buckets, Rate, ms};

/// What a server may make us ask of itself: so much is needed after days of absence from many rooms.
const OF_ITSELF: Rate = Rate {
    per_second: 20.0,
    burst: 2_000,
};
/// What a server may make us ask of others.
const OF_OTHERS: Rate = Rate {
    per_second: 1.0,
    burst: 100,
};
/// What a server is asked at the most, whoever causes it, that isn't the cause itself.
const AS_ANOTHER: Rate = Rate {
    per_second: 5.0,
    burst: 500,
};
/// The longest that a server which doesn't answer is left alone.
const LONGEST_REST: Duration = Duration::from_mins(5);
/// Servers that are remembered.
const MAX_REMEMBERED: usize = 10_000;

/// How many other servers are asked when the one that sent the event doesn't help.
const OTHER_SERVERS: usize = 2;

/// The origin first, then the sender's server, then others of the room.
pub(super) fn to_ask(
    us: &ServerName,
    in_room: &[OwnedServerName],
    origin: &ServerName,
    sender: &ServerName,
) -> Vec<OwnedServerName> {
    let others = in_room
        .iter()
        .filter(|server| **server != *origin && **server != *sender && *server != us);
    let mut servers = vec![origin.to_owned()];
    if sender != origin {
        servers.push(sender.to_owned());
    }
    servers.extend(others.take(OTHER_SERVERS).cloned());
    servers.retain(|server| server != us);
    servers
}

/// The servers that didn't answer, and everybody's budgets. Times are the store's monotonic clock's.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    slow: Mutex<HashMap<OwnedServerName, Slow>>,
    of_itself: Buckets,
    of_others: Buckets,
    as_another: Buckets,
}

/// A server that didn't answer in time, or at all.
#[derive(Debug, Clone, Copy)]
struct Slow {
    failures: u32,
    /// Until then it is left alone.
    rests: Duration,
    since: Duration,
}

impl Servers {
    fn slow(&self) -> MutexGuard<'_, HashMap<OwnedServerName, Slow>> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether events of this server's are better left to those who have time: it didn't answer the last question
    /// in time.
    pub(crate) fn is_slow(&self, server: &ServerName) -> bool {
        self.slow().contains_key(server)
    }

    /// How much longer a server is to be left alone.
    pub(super) fn rest_of(&self, server: &ServerName, now: Duration) -> Option<Duration> {
        let rests = self.slow().get(server)?.rests;
        rests.checked_sub(now).filter(|rest| !rest.is_zero())
    }

    /// It answered, whatever.
    pub(super) fn answered(&self, server: &ServerName) {
        self.slow().remove(server);
    }

    /// It answered, but took longer than it is waited for at a first try.
    pub(super) fn answered_late(&self, server: &ServerName, now: Duration) {
        self.answered(server);
        self.was_slow(server, now);
    }

    /// It hasn't answered in the time that a first try has. It may be asked again, with more patience.
    pub(crate) fn was_slow(&self, server: &ServerName, now: Duration) {
        self.remember(server, now);
    }

    /// It can't be reached, or took too long. It is left alone: for `first`, then twice as long each time.
    pub(super) fn failed(&self, server: &ServerName, now: Duration, first: Duration) {
        self.remember(server, now);
        let mut slow = self.slow();
        let Some(slow) = slow.get_mut(server) else {
            return;
        };
        // Several questions that were under way at once are one failure.
        if slow.rests > now {
            return;
        }
        let doublings = slow.failures.min(16);
        slow.failures = slow.failures.saturating_add(1);
        slow.rests = now + first.saturating_mul(1 << doublings).min(LONGEST_REST);
    }

    fn remember(&self, server: &ServerName, now: Duration) {
        let mut slow = self.slow();
        if slow.len() >= MAX_REMEMBERED && !slow.contains_key(server) {
            let oldest = slow.iter().min_by_key(|(_, slow)| slow.since);
            let oldest = oldest.map(|(name, _)| name.clone());
            slow.retain(|name, _| Some(name) != oldest.as_ref());
        }
        slow.entry(server.to_owned()).or_insert(Slow {
            failures: 0,
            rests: now,
            since: now,
        });
    }

    /// Takes one question to others of a room that an event of `cause` gives rise to from the budget; `false`: not now.
    pub(crate) fn may_trouble_others(&self, cause: &ServerName, now: Duration) -> bool {
        self.of_others.take(OF_OTHERS, cause, 1, ms(now)).is_ok()
    }

    /// Takes one question to `asked` that an event of `cause` gives rise to from the budgets; `false`: not now.
    pub(super) fn take(&self, cause: &ServerName, asked: &ServerName, now: Duration) -> bool {
        if asked == cause {
            return self.of_itself.take(OF_ITSELF, cause, 1, ms(now)).is_ok();
        }
        self.may_trouble_others(cause, now)
            && self.as_another.take(AS_ANOTHER, asked, 1, ms(now)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_fails_is_left_alone_ever_longer_until_it_answers() {
        let (servers, far) = (Servers::default(), server_name!("far.org"));
        assert!(!servers.is_slow(far));
        servers.failed(far, SECOND, 2 * SECOND);
        // Of questions that were under way at once, only one counts.
        servers.failed(far, SECOND, 2 * SECOND);
        assert!(servers.is_slow(far));
        assert_eq!(servers.rest_of(far, 2 * SECOND), Some(SECOND));
        assert_eq!(servers.rest_of(far, 3 * SECOND), None);
        servers.failed(far, 3 * SECOND, 2 * SECOND);
        assert_eq!(servers.rest_of(far, 3 * SECOND), Some(4 * SECOND));
        for n in 2..60 {
            servers.failed(far, 1000 * n * SECOND, 2 * SECOND);
        }
        assert_eq!(
            servers.rest_of(far, 59_000 * SECOND),
            Some(LONGEST_REST),
            "but not for ever"
        );
        servers.answered(far);
        assert!(!servers.is_slow(far));
        assert_eq!(servers.rest_of(far, SECOND), None);
        servers.was_slow(far, SECOND);
        assert!(servers.is_slow(far));
        assert_eq!(servers.rest_of(far, SECOND), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let servers = Servers::default();
        for n in 0..MAX_REMEMBERED + 5 {
            let name: OwnedServerName = format!("s{n}.org").try_into().unwrap();
            let now = Duration::from_secs(u64::try_from(n).unwrap());
            servers.was_slow(&name, now);
        }
        assert_eq!(servers.slow().len(), MAX_REMEMBERED);
        assert!(!servers.is_slow(server_name!("s0.org")));
    }

    #[test]
    fn who_causes_much_gets_little_of_others() {
        let servers = Servers::default();
        let (cause, other) = (server_name!("cause.org"), server_name!("other.org"));
        let taken = |cause: &ServerName, asked: &ServerName| {
            let questions = 0..5_000;
            questions
                .filter(|_| servers.take(cause, asked, SECOND))
                .count()
        };
        assert_eq!(taken(cause, other), 100);
        assert_eq!(taken(cause, server_name!("third.org")), 0);
        assert_eq!(taken(cause, cause), 2_000);
        // What is asked of it for others takes nothing from what it causes itself.
        assert_eq!(taken(other, other), 2_000);
        let many: usize = (0..20)
            .map(|n| OwnedServerName::try_from(format!("s{n}.org")).unwrap())
            .map(|cause| taken(&cause, other))
            .sum();
        assert_eq!(many, 400, "whoever causes it");
    }
}
