//! The servers that ask us and send to us: what each costs, how it conducts itself, and what is noted of it.
//!
//! All of it is in memory and bounded, and no server's request waits for more than a lock that nobody holds for long.
//!
//! - [`account`]: what was done for each, and who has to wait.
//! - [`places`]: work that is done for others, a few at a time, shared fairly.
//! - [`conduct`]: who sends what can't be verified, and isn't heard for a while.
//! - [`equivocation`]: who says two things in one place.
//! - [`known`]: what was noted of each since it was last written down.
//! - [`writing`]: to a table, for the operator to see.
//!
//! With several processes each has its own accounts and its own opinion; the table has what all of them have seen.

mod account;
mod conduct;
mod equivocation;
mod known;
mod places;
pub(crate) mod writing;

use std::{
    num::NonZero,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
    time::Duration,
};

use rhizome_edge::limits::ms;
use rhizome_protocol::Pdu;
use rhizome_storage::{Clock, InboundSeen};
use ruma::ServerName;

pub(crate) use self::known::Noted;
use self::{
    account::{Accounts, price_of, price_of_signatures, price_of_time},
    known::Known,
    places::{Workplace, Workplaces},
};
use crate::{MatrixError, RateLimits, budgets::Kind};

/// For so long a server that owes something is kept waiting; if it owes more, it is told to come later.
const PATIENCE: Duration = Duration::from_secs(5);
/// In how many rooms events are decided at the same time, and how many of those are one server's. Deciding waits for the
/// database most of the time.
const DECIDING: (usize, usize) = (16, 8);

/// What is known of other servers.
#[derive(Debug)]
pub(crate) struct Origins {
    clock: Clock,
    /// Whether anybody is kept waiting.
    limits: bool,
    accounts: Accounts,
    checking: Workplaces,
    deciding: Workplaces,
    stands: equivocation::Places,
    known: Mutex<Known>,
}

impl Origins {
    pub(crate) fn new(rates: &RateLimits, clock: Clock) -> Self {
        // One more than there are processors: somebody else always gets a turn at them.
        let processors = available_parallelism().map_or(1, NonZero::get);
        let (most, most_of_one) = DECIDING;
        Self {
            clock,
            limits: rates.enabled,
            accounts: Accounts::new(rates.work),
            checking: Workplaces::new(processors + 1, processors),
            deciding: Workplaces::new(most, most_of_one),
            stands: equivocation::Places::default(),
            known: Mutex::default(),
        }
    }

    /// A signed request of `origin` has come, with so many bytes.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED`: it owes too much for what makes work.
    pub(crate) fn ask(
        &self,
        origin: &ServerName,
        kind: Kind,
        bytes: usize,
    ) -> Result<(), MatrixError> {
        let work = price_of(kind, bytes);
        let owes = self.owes(origin).filter(|owes| *owes > PATIENCE);
        // The door's work was done, whatever comes of it.
        self.accounts.book(origin, work, self.now_ms());
        self.lock().count(origin, self.now(), |counts| {
            counts.requests += 1;
            counts.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
            counts.work_us += micros(work);
        });
        match owes {
            Some(owes) if matches!(kind, Kind::Transaction | Kind::State) => {
                Err(MatrixError::limit_exceeded(ms(owes)))
            }
            _ => Ok(()),
        }
    }

    /// It was told to come later.
    pub(crate) fn limited(&self, origin: &ServerName) {
        let now = self.now();
        self.lock().count(origin, now, |counts| counts.limited += 1);
    }

    /// Waits until `origin` owes nothing, within bounds.
    pub(crate) async fn wait_for(&self, origin: &ServerName) {
        if let Some(owes) = self.owes(origin) {
            self.clock.sleep(owes.min(PATIENCE)).await;
        }
    }

    /// A place at the processors, to check so many events that `origin` has sent.
    pub(crate) async fn checking(&self, origin: &ServerName, events: usize) -> Workplace {
        let place = self.checking.take(origin, self.spent(origin)).await;
        self.book(origin, price_of_signatures(events));
        place
    }

    /// A place where events are decided that `origin` has sent. How long that takes is booked when it is given back.
    pub(crate) async fn deciding<'a>(&'a self, origin: &'a ServerName) -> Deciding<'a> {
        let place = self.deciding.take(origin, self.spent(origin)).await;
        Deciding {
            origins: self,
            origin,
            begun: self.now(),
            _place: place,
        }
    }

    /// Whether events of the server's users aren't looked at for now.
    pub(crate) fn is_quarantined(&self, origin: &ServerName) -> bool {
        self.lock().is_quarantined(origin, self.now())
    }

    /// Notes what became of a transaction's events.
    pub(crate) fn note(&self, origin: &ServerName, noted: Noted) {
        let (now, now_ms) = (self.now(), self.clock.now_ms());
        let term = self.lock().note(origin, noted, now, now_ms);
        if let Some(term) = term {
            tracing::warn!(
                %origin, ?term,
                "a server has sent many events of its own that can't be verified: for so long its users aren't heard"
            );
        }
    }

    /// Notes where a verified event of another server stands, and says so if something else stands there.
    pub(crate) fn stands(&self, pdu: &Pdu) {
        let Some(other) = self.stands.note(pdu) else {
            return;
        };
        let (event, sender) = (pdu.event_id(), pdu.sender());
        tracing::info!(
            %event, %other, %sender, room = %pdu.room_id(),
            "two events of one sender stand in one place: its server may tell different servers different things"
        );
        let now = self.now();
        self.lock().count(sender.server_name(), now, |counts| {
            counts.equivocations += 1;
        });
    }

    /// What wasn't written down yet.
    fn unwritten(&self) -> Vec<InboundSeen> {
        let (now, now_ms) = (self.now(), self.clock.now_ms());
        self.lock().take(now, now_ms)
    }

    /// It couldn't be written down.
    fn keep_unwritten(&self, seen: Vec<InboundSeen>) {
        let now = self.now();
        self.lock().give_back(seen, now);
    }

    fn owes(&self, origin: &ServerName) -> Option<Duration> {
        if !self.limits {
            return None;
        }
        self.accounts.owes(origin, self.now_ms())
    }

    fn spent(&self, origin: &ServerName) -> f64 {
        self.accounts.spent(origin, self.now_ms())
    }

    fn book(&self, origin: &ServerName, work: f64) {
        self.accounts.book(origin, work, self.now_ms());
        let now = self.now();
        self.lock()
            .count(origin, now, |counts| counts.work_us += micros(work));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    fn now_ms(&self) -> u64 {
        ms(self.now())
    }
}

/// A place where events are decided.
#[derive(Debug)]
pub(crate) struct Deciding<'a> {
    origins: &'a Origins,
    origin: &'a ServerName,
    begun: Duration,
    _place: Workplace,
}

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        let took = self.origins.now().saturating_sub(self.begun);
        self.origins.book(self.origin, price_of_time(took));
    }
}

/// Of milliseconds.
fn micros(work: f64) -> u64 {
    let micros = Duration::try_from_secs_f64(work / 1_000.0).unwrap_or(Duration::MAX);
    u64::try_from(micros.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use rhizome_edge::limits::Rate;
    use ruma::server_name;

    use super::*;

    fn origins(enabled: bool) -> Origins {
        let rates = RateLimits {
            enabled,
            work: Rate {
                per_second: 100.0,
                burst: 1_000,
            },
            ..RateLimits::default()
        };
        Origins::new(&rates, Clock::manual(1_000))
    }

    fn sent(origins: &Origins, server: &ServerName) -> InboundSeen {
        let mut all = origins.unwritten().into_iter();
        let found = all.find(|seen| seen.server == *server);
        found.expect("something is known of it")
    }

    /// Who owes much is told when to come again; others notice nothing, and what is no work is answered.
    #[test]
    fn who_owes_much_is_told_to_come_later() {
        let origins = origins(true);
        let (a, b) = (server_name!("a.example"), server_name!("b.example"));
        assert!(origins.ask(a, Kind::Transaction, 1_000).is_ok());
        origins.book(a, 1_599.0);
        let refused = origins.ask(a, Kind::Transaction, 0).unwrap_err();
        assert_eq!(refused.errcode, "M_LIMIT_EXCEEDED");
        let wait = refused.extra["retry_after_ms"].as_u64().unwrap();
        assert!((5_000..8_000).contains(&wait), "{wait}");
        assert!(origins.ask(a, Kind::State, 0).is_err());
        assert!(origins.ask(a, Kind::Other, 0).is_ok());
        assert!(origins.ask(b, Kind::Transaction, 0).is_ok());
        origins.clock.advance(Duration::from_secs(4));
        assert!(origins.ask(a, Kind::Transaction, 0).is_ok());
        let seen = sent(&origins, a);
        assert_eq!(seen.counts.requests, 5);
        assert_eq!(seen.counts.bytes, 1_000);
        assert!(seen.counts.work_us > 1_599_000);
    }

    #[test]
    fn switched_off_nobody_waits_and_all_is_counted() {
        let origins = origins(false);
        let a = server_name!("a.example");
        origins.book(a, 1e9);
        assert!(origins.ask(a, Kind::Transaction, 0).is_ok());
        assert_eq!(sent(&origins, a).counts.requests, 1);
    }

    /// The time that deciding took is measured, by the clock.
    #[tokio::test]
    async fn what_is_decided_is_booked_when_it_is_done() {
        let (origins, a) = (origins(true), server_name!("a.example"));
        let deciding = origins.deciding(a).await;
        origins.clock.advance(Duration::from_millis(250));
        assert_eq!(micros(origins.spent(a)), 0);
        drop(deciding);
        assert_eq!(micros(origins.spent(a)), 250_000);
        drop(origins.checking(a, 50).await);
        assert_eq!(sent(&origins, a).counts.work_us, 255_000);
    }

    #[test]
    fn odd_amounts_are_some_amount() {
        assert_eq!(micros(1.5), 1_500);
        assert_eq!(micros(-1.0), u64::MAX);
        assert_eq!(micros(f64::NAN), u64::MAX);
    }
}
