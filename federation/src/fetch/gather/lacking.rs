//! What servers didn't have that were asked for it: they aren't asked again at each event that names it.
//!
//! It is remembered of each server by itself, so that none of them keeps us from what another has; for a while, which
//! doubles each time that it is in vain.

use std::time::Duration;

use http::StatusCode;
use rhizome_storage::Cache;
use ruma::{OwnedEventId, OwnedServerName, ServerName};

use crate::outbound::OutboundError;

/// The longest that something isn't asked for again.
const LONGEST: Duration = Duration::from_hours(1);
/// The first time it isn't for so many times what a destination is left alone for after its first failure: with that, less than
/// the inbox waits before it looks again. Who has an invite signed by us hasn't stored it before, and somebody waits for it here.
const FIRST: u32 = 2;
/// How much is remembered.
const MAX_REMEMBERED: usize = 10_000;

/// Something that a server may have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// An event by its id.
    Event(OwnedEventId),
    /// An event as part of the history, before others of it that the server has.
    Prev(OwnedEventId),
    /// What is before an event that the server may not have either.
    Before(OwnedEventId),
    /// What an event rests on.
    Auth(OwnedEventId),
    /// The state before an event, as ids.
    StateIds(OwnedEventId),
    /// The same as events.
    State(OwnedEventId),
    /// A state after an event that can be taken, as it has told one that can't.
    FitState(OwnedEventId),
}

/// See the module. Times are the store's monotonic clock's.
#[derive(Debug)]
pub(crate) struct Lacking(Cache<(OwnedServerName, What), Vain>);

#[derive(Debug, Clone, Copy)]
struct Vain {
    times: u32,
    /// Until then it isn't asked for.
    until: Duration,
}

/// How long something isn't asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    first: Duration,
    longest: Duration,
}

impl Waits {
    /// By how failed destinations are treated: the waits after the first failure, and at most.
    pub(super) fn of(retry_min: Duration, retry_max: Duration) -> Self {
        let longest = retry_max.min(LONGEST);
        Self {
            first: retry_min.saturating_mul(FIRST).min(longest),
            longest,
        }
    }
}

impl Default for Lacking {
    fn default() -> Self {
        Self(Cache::new(MAX_REMEMBERED))
    }
}

impl Lacking {
    /// Whether the server was asked for this lately, and hadn't got it.
    pub(super) fn is_known(&self, server: &ServerName, what: &What, now: Duration) -> bool {
        let vain = self.0.get(&(server.to_owned(), what.clone()));
        vain.is_some_and(|vain| now < vain.until)
    }

    /// The server was asked for this, and hasn't got it.
    pub(super) fn note(&self, server: &ServerName, what: &What, now: Duration, waits: Waits) {
        let key = (server.to_owned(), what.clone());
        // What was long ago says nothing any more.
        let known = self.0.get(&key);
        let known = known.filter(|vain| now < vain.until.saturating_add(LONGEST));
        // Several questions that were under way at once are one.
        if known.is_some_and(|vain| now < vain.until) {
            return;
        }
        let times = known.map_or(0, |vain| vain.times);
        let wait = waits.first.saturating_mul(1 << times.min(16));
        let vain = Vain {
            times: times.saturating_add(1),
            until: now + wait.min(waits.longest),
        };
        self.0.insert(key, vain);
    }
}

/// Whether a server has said that it hasn't got something, or what it gives can't be it. Who is busy may have it.
pub(super) fn is_lack(error: &OutboundError) -> bool {
    const NO: [StatusCode; 3] = [
        StatusCode::BAD_REQUEST,
        StatusCode::FORBIDDEN,
        StatusCode::NOT_FOUND,
    ];
    let refused = error.status().is_some_and(|status| NO.contains(&status));
    refused || matches!(error, OutboundError::Answer(_))
}

#[cfg(test)]
mod tests {
    use ruma::{event_id, server_name};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn waits() -> Waits {
        Waits::of(SECOND, Duration::from_hours(24))
    }

    #[test]
    fn what_a_server_lacks_is_asked_of_it_ever_less_often() {
        let (lacking, far) = (Lacking::default(), server_name!("far.org"));
        let what = What::Event(event_id!("$lost").to_owned());
        assert!(!lacking.is_known(far, &what, SECOND));
        for _ in 0..2 {
            lacking.note(far, &what, SECOND, waits());
        }
        assert!(lacking.is_known(far, &what, 2 * SECOND));
        assert!(!lacking.is_known(far, &what, 3 * SECOND));
        // Of others it says nothing, nor of what it has otherwise.
        assert!(!lacking.is_known(server_name!("near.org"), &what, SECOND));
        let otherwise = What::Prev(event_id!("$lost").to_owned());
        assert!(!lacking.is_known(far, &otherwise, SECOND));

        lacking.note(far, &what, 3 * SECOND, waits());
        assert!(lacking.is_known(far, &what, 6 * SECOND));
        assert!(!lacking.is_known(far, &what, 7 * SECOND));
        let mut now = 7 * SECOND;
        for _ in 0..40 {
            lacking.note(far, &what, now, waits());
            assert!(!lacking.is_known(far, &what, now + LONGEST));
            now += LONGEST;
        }
        assert!(lacking.is_known(far, &what, now.saturating_sub(SECOND)));
        // Nobody has looked for so long that it is as if it were the first time.
        now += 3 * LONGEST;
        lacking.note(far, &what, now, waits());
        assert!(!lacking.is_known(far, &what, now + 2 * SECOND));
    }

    #[test]
    fn who_has_no_time_or_breaks_off_lacks_nothing() {
        let transport = OutboundError::Transport("broken off".to_owned());
        for error in [OutboundError::Timeout, transport] {
            assert!(!is_lack(&error), "{error}");
        }
        let busy = crate::MatrixError::limit_exceeded(1_000);
        assert!(!is_lack(&OutboundError::Remote(busy)));
        let forbidden = crate::MatrixError::forbidden("You aren't in the room");
        assert!(is_lack(&OutboundError::Remote(forbidden)));
        assert!(is_lack(&OutboundError::Answer("no JSON".to_owned())));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (lacking, far) = (Lacking::default(), server_name!("far.org"));
        let whats: Vec<What> = (0..3 * MAX_REMEMBERED)
            .map(|n| What::Event(format!("${n}").try_into().unwrap()))
            .collect();
        for what in &whats {
            lacking.note(far, what, SECOND, waits());
        }
        let known = whats
            .iter()
            .filter(|what| lacking.is_known(far, what, SECOND));
        assert!(known.count() <= MAX_REMEMBERED);
    }

    #[test]
    fn who_has_little_patience_has_it_here_as_well() {
        let waits = Waits::of(SECOND, 2 * SECOND);
        assert_eq!((waits.first, waits.longest), (2 * SECOND, 2 * SECOND));
    }
}
