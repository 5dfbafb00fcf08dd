//! What other servers cost: an account each, in milliseconds of work.
//!
//! What can be told beforehand has a price; what can't is measured as it is done, and booked when it is done. So an account
//! may come to owe something, and its server waits until it owes nothing. It never owes more than it holds when it is full:
//! who has sent much isn't kept out for ever.

use std::time::Duration;

use rhizome_edge::limits::{Buckets, Rate};
use ruma::ServerName;

use crate::budgets::Kind;

/// So many bytes are read, looked through and hashed in a millisecond.
const BYTES: f64 = 100_000.0;
/// So many signatures are checked in one.
const SIGNATURES: f64 = 10.0;

/// The accounts of whoever was there lately.
#[derive(Debug)]
pub(crate) struct Accounts {
    /// Milliseconds of work for each second, and in advance.
    rate: Rate,
    buckets: Buckets,
}

impl Accounts {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: Buckets::default(),
        }
    }

    /// Books what was done for a server, in milliseconds.
    pub(crate) fn book(&self, server: &ServerName, cost: f64, now_ms: u64) {
        self.buckets.charge(self.rate, server, cost, now_ms);
    }

    /// What was done for a server lately, in milliseconds.
    pub(crate) fn spent(&self, server: &ServerName, now_ms: u64) -> f64 {
        self.buckets.spent(self.rate, server, now_ms)
    }

    /// How long until a server owes nothing; `None`: it doesn't.
    pub(crate) fn owes(&self, server: &ServerName, now_ms: u64) -> Option<Duration> {
        let owed = self.spent(server, now_ms) - f64::from(self.rate.burst.max(1));
        let seconds = owed / self.rate.per_second.max(1e-9);
        // A moment is less than anybody could wait for.
        (seconds > 1e-3).then(|| Duration::from_secs_f64(seconds.min(86_400.0)))
    }
}

/// What a request costs before anything is done for it: to be read, its signature, and what such requests mostly take.
pub(crate) fn price_of(kind: Kind, bytes: usize) -> f64 {
    let usual = match kind {
        Kind::Transaction => 0.5,
        Kind::State => 20.0,
        Kind::Media | Kind::Other => 2.0,
    };
    usual + number(bytes) / BYTES + price_of_signatures(1)
}

/// What it costs to check so many signatures.
pub(crate) fn price_of_signatures(count: usize) -> f64 {
    number(count) / SIGNATURES
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Milliseconds.
pub(crate) fn price_of_time(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruma::{OwnedServerName, server_name};

    use super::*;

    const RATE: Rate = Rate {
        per_second: 500.0,
        burst: 2_000,
    };

    #[test]
    fn who_owes_something_waits_until_it_is_paid() {
        let (accounts, a) = (Accounts::new(RATE), server_name!("a.example"));
        assert_eq!(accounts.owes(a, 0), None);
        accounts.book(a, 2_000.0, 0);
        assert_eq!(accounts.owes(a, 0), None, "it had as much");
        accounts.book(a, 250.0, 0);
        assert_eq!(accounts.owes(a, 0), Some(Duration::from_millis(500)));
        assert_eq!(accounts.owes(a, 400), Some(Duration::from_millis(100)));
        assert_eq!(accounts.owes(a, 500), None);
        assert_eq!(accounts.owes(server_name!("b.example"), 0), None);
    }

    #[test]
    fn what_is_much_costs_much() {
        let send = |bytes| price_of(Kind::Transaction, bytes);
        assert!(send(0) < 1.0, "a message costs next to nothing");
        assert!(send(16 << 20) > 100.0);
        assert!(price_of(Kind::State, 0) > price_of(Kind::Other, 0));
        assert!((price_of_signatures(50) - 5.0).abs() < 1e-9);
        assert!((price_of_time(Duration::from_millis(7)) - 7.0).abs() < 1e-9);
    }

    proptest! {
        /// Whatever servers do and however long it takes: who begins nothing while it owes something is given at most what
        /// an account holds, what comes back meanwhile, and the last thing; nobody waits longer than it takes an account to
        /// be full; and no account is another's.
        #[test]
        fn nobody_gets_more_than_is_theirs(
            steps in prop::collection::vec((0_usize..3, 0.0_f64..1_900.0, 0_u64..2_000), 0..200),
        ) {
            let accounts = Accounts::new(RATE);
            let (burst, per_second) = (f64::from(RATE.burst), RATE.per_second);
            let name = |n: usize| OwnedServerName::try_from(format!("s{n}.example")).unwrap();
            let mut given = [0.0; 3];
            let (mut now, mut largest): (u64, f64) = (0, 0.0);
            for (who, cost, pause) in steps {
                let others: Vec<usize> = (0..3).filter(|other| *other != who).collect();
                let before: Vec<f64> = others.iter().map(|n| accounts.spent(&name(*n), now)).collect();
                match accounts.owes(&name(who), now) {
                    None => {
                        accounts.book(&name(who), cost, now);
                        given[who] += cost;
                        largest = largest.max(cost);
                    }
                    Some(wait) => prop_assert!(wait.as_secs_f64() <= burst / per_second + 1e-6),
                }
                let after: Vec<f64> = others.iter().map(|n| accounts.spent(&name(*n), now)).collect();
                prop_assert_eq!(before, after);
                now += pause;
                let seconds = Duration::from_millis(now).as_secs_f64();
                for given in given {
                    prop_assert!(given <= burst + per_second * seconds + largest + 1.0);
                }
            }
            // Who does nothing for as long as it takes has all again.
            let full = now + 8_001;
            for n in 0..3 {
                prop_assert!(accounts.spent(&name(n), full) < 1e-6);
            }
        }
    }
}
