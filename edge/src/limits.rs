//! Rate limits: token buckets in bounded memory, for both edges.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

/// Buckets kept at most.
const MAX_BUCKETS: usize = 100_000;
/// How many buckets of a full table are looked at for the one to give up.
const WINDOW: usize = 64;

/// How fast a bucket refills, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Requests per second in the long run.
    pub per_second: f64,
    /// Requests that may come at once.
    pub burst: u32,
}

/// What one subscriber usually has: an IPv4 address or an IPv6 /64.
pub fn block_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Token buckets of whoever was seen lately.
#[derive(Debug, Default)]
pub struct Buckets {
    hasher: RandomState,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    places: HashMap<u64, usize>,
    buckets: Vec<Bucket>,
    /// Where the next bucket to give up is looked for.
    hand: usize,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    key: u64,
    tokens: f64,
    at_ms: u64,
    rate: Rate,
}

impl Bucket {
    fn full(key: u64, rate: Rate, now_ms: u64) -> Self {
        Self {
            key,
            tokens: f64::from(rate.burst.max(1)),
            at_ms: now_ms,
            rate,
        }
    }

    fn tokens_at(&self, now_ms: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since start fit")]
        let elapsed = now_ms.saturating_sub(self.at_ms) as f64 / 1000.0;
        (self.tokens + elapsed * self.rate.per_second).min(f64::from(self.rate.burst.max(1)))
    }

    /// Seconds until it is full: what its owner would gain if it were forgotten.
    fn owes_at(&self, now_ms: u64) -> f64 {
        let missing = f64::from(self.rate.burst.max(1)) - self.tokens_at(now_ms);
        missing / self.rate.per_second.max(1e-9)
    }

    /// Takes `count` tokens; when there aren't as many, the milliseconds until there are.
    fn take(&mut self, count: u32, now_ms: u64) -> Result<(), u64> {
        let (wanted, tokens) = (f64::from(count), self.tokens_at(now_ms));
        self.at_ms = now_ms;
        if tokens >= wanted {
            self.tokens = tokens - wanted;
            return Ok(());
        }
        self.tokens = tokens;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to a day and positive"
        )]
        let wait = ((wanted - tokens) / self.rate.per_second.max(1e-9) * 1000.0)
            .clamp(1.0, 86_400_000.0)
            .ceil() as u64;
        Err(wait)
    }
}

impl Buckets {
    /// Takes `count` tokens, which are no more than the rate's burst, from the bucket of `who` at `now_ms`
    /// (monotonic milliseconds).
    ///
    /// # Errors
    /// When it holds fewer: the milliseconds after which to try again.
    pub fn take(&self, rate: Rate, who: impl Hash, count: u32, now_ms: u64) -> Result<(), u64> {
        // 64 bits of a randomly keyed hash stand for the caller: fixed memory, and nobody can aim
        // for another's bucket.
        let key = self.hasher.hash_one(who);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.bucket(key, rate, now_ms).take(count, now_ms)
    }

    /// Gives tokens back that were taken for what then wasn't done.
    pub fn give_back(&self, rate: Rate, who: impl Hash, count: u32, now_ms: u64) {
        let key = self.hasher.hash_one(who);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.bucket(key, rate, now_ms).tokens += f64::from(count);
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.buckets.len()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Table {
    fn bucket(&mut self, key: u64, rate: Rate, now_ms: u64) -> &mut Bucket {
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None if self.buckets.len() < MAX_BUCKETS => {
                self.buckets.push(Bucket::full(key, rate, now_ms));
                self.buckets.len() - 1
            }
            None => {
                let place = self.give_up(now_ms);
                self.places.remove(&self.buckets[place].key);
                self.buckets[place] = Bucket::full(key, rate, now_ms);
                place
            }
        };
        self.places.insert(key, place);
        &mut self.buckets[place]
    }

    /// Of some buckets of a full table, the one whose owner gains least when it is forgotten. Who fills the
    /// table so gets rid of what they filled it with, and not of a bucket that they have emptied.
    fn give_up(&mut self, now_ms: u64) -> usize {
        let first = self.hand;
        self.hand = (first + WINDOW) % self.buckets.len();
        (first..first + WINDOW)
            .map(|place| place % self.buckets.len())
            .min_by(|a, b| {
                let owes = |place: &usize| self.buckets[*place].owes_at(now_ms);
                owes(a).total_cmp(&owes(b))
            })
            .unwrap_or(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 2.0,
        burst: 3,
    };

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let buckets = Buckets::default();
        for _ in 0..3 {
            assert_eq!(buckets.take(RATE, "a", 1, 1000), Ok(()));
        }
        assert_eq!(buckets.take(RATE, "a", 1, 1000), Err(500));
        assert_eq!(
            buckets.take(RATE, "b", 1, 1000),
            Ok(()),
            "others have their own bucket"
        );
        assert_eq!(buckets.take(RATE, "a", 1, 1500), Ok(()));
        assert_eq!(buckets.take(RATE, "a", 1, 1500), Err(500));
    }

    #[test]
    fn several_at_once_are_counted_each_or_none() {
        let buckets = Buckets::default();
        assert_eq!(buckets.take(RATE, "a", 2, 0), Ok(()));
        assert_eq!(buckets.take(RATE, "a", 2, 0), Err(500));
        assert_eq!(buckets.take(RATE, "a", 1, 0), Ok(()), "nothing was taken");
    }

    #[test]
    fn who_fills_the_table_frees_nobody() {
        let rate = Rate {
            per_second: 0.001,
            burst: 5,
        };
        let buckets = Buckets::default();
        for _ in 0..5 {
            assert_eq!(buckets.take(rate, "the abuser", 1, 0), Ok(()));
        }
        for n in 0..2 * MAX_BUCKETS {
            assert_eq!(buckets.take(rate, n, 1, 0), Ok(()));
        }
        assert!(buckets.take(rate, "the abuser", 1, 0).is_err());
        assert_eq!(buckets.len(), MAX_BUCKETS, "memory is bounded");
    }

    #[test]
    fn a_subscriber_has_one_block() {
        let block = |address: &str| block_of(address.parse().unwrap()).to_string();
        assert_eq!(block("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(block("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(block("192.0.2.1"), "192.0.2.1");
    }
}
