//! Rate limits: token buckets in bounded memory, for both edges.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
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

/// A time as buckets count it, in milliseconds.
pub fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What one subscriber usually has: an IPv4 address or an IPv6 /64.
pub fn block_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// So many times as much as one block's may be done by all of an IPv6 /48, of which one subscriber may have the 65,536
/// blocks.
pub const BLOCKS_AT_ONCE: u16 = 16;

/// What one subscriber has at most: an IPv6 /48. An IPv4 address has no neighbours that are known to be the same person's.
pub fn site_of(peer: IpAddr) -> Option<IpAddr> {
    match peer.to_canonical() {
        IpAddr::V6(v6) => Some(IpAddr::V6((v6.to_bits() >> 80 << 80).into())),
        IpAddr::V4(_) => None,
    }
}

impl Rate {
    /// What all blocks of a /48 may do together.
    fn of_site(self) -> Self {
        Self {
            per_second: self.per_second * f64::from(BLOCKS_AT_ONCE),
            burst: self.burst.max(1).saturating_mul(u32::from(BLOCKS_AT_ONCE)),
        }
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

    /// Takes what something has cost, also what isn't there; no more comes to be owed than a full bucket has.
    fn charge(&mut self, cost: f64, now_ms: u64) {
        let most = f64::from(self.rate.burst.max(1));
        let cost = if cost.is_finite() {
            cost.max(0.0)
        } else {
            most
        };
        self.tokens = (self.tokens_at(now_ms) - cost).max(-most);
        self.at_ms = self.at_ms.max(now_ms);
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

    /// [`Buckets::take`] for who is known by their address only: of their block ([`block_of`]) and, with IPv6, of all blocks
    /// of their /48 together.
    ///
    /// # Errors
    /// When either holds fewer: the milliseconds after which to try again. Nothing is taken then.
    pub fn take_from(
        &self,
        rate: Rate,
        (kind, peer): (impl Hash, IpAddr),
        count: u32,
        now_ms: u64,
    ) -> Result<(), u64> {
        let keys = self.keys(&kind, peer);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.take_from(rate, keys, count, now_ms)
    }

    /// How many tokens are missing from what [`Buckets::take_from`] takes from, in whole ones: of the block, or for each
    /// block that may be at it at once of the /48, whichever is more.
    pub fn missing_from(&self, rate: Rate, (kind, peer): (impl Hash, IpAddr), now_ms: u64) -> u32 {
        let keys = self.keys(&kind, peer);
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.missing_from(rate, keys, now_ms)
    }

    /// Takes a token as [`Buckets::take_from`] does, if there is one; how many were missing before, and whether it is taken.
    /// Of many that come at once each finds one more missing.
    pub fn count_from(
        &self,
        rate: Rate,
        (kind, peer): (impl Hash, IpAddr),
        now_ms: u64,
    ) -> (u32, bool) {
        let keys = self.keys(&kind, peer);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let before = table.missing_from(rate, keys, now_ms);
        let taken = table.take_from(rate, keys, 1, now_ms).is_ok();
        (before, taken)
    }

    /// Gives back a token that [`Buckets::take_from`] or [`Buckets::count_from`] has taken.
    pub fn give_back_from(&self, rate: Rate, (kind, peer): (impl Hash, IpAddr), now_ms: u64) {
        let (block, site) = self.keys(&kind, peer);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.bucket(block, rate, now_ms).tokens += 1.0;
        if let Some(site) = site {
            table.bucket(site, rate.of_site(), now_ms).tokens += 1.0;
        }
    }

    /// The keys of who is known by their address only: of their block and, with IPv6, of their /48.
    fn keys(&self, kind: &impl Hash, peer: IpAddr) -> (u64, Option<u64>) {
        let block = self.hasher.hash_one((kind, block_of(peer)));
        // The first block of a /48 is written as the /48 is.
        let site = site_of(peer).map(|site| self.hasher.hash_one((kind, "site", site)));
        (block, site)
    }

    /// Takes from the bucket of `who` what something has cost that is done already. It may come to owe as much as it holds
    /// when it is full; more is forgiven.
    pub fn charge(&self, rate: Rate, who: impl Hash, cost: f64, now_ms: u64) {
        let key = self.hasher.hash_one(who);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.bucket(key, rate, now_ms).charge(cost, now_ms);
    }

    /// How much is missing from the bucket of `who`: more than it can hold, if it owes something.
    pub fn spent(&self, rate: Rate, who: impl Hash, now_ms: u64) -> f64 {
        let key = self.hasher.hash_one(who);
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.missing(key, rate, now_ms)
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
        let bucket = &mut self.buckets[place];
        if bucket.rate != rate {
            // The operator has given its owner another one.
            *bucket = Bucket::full(key, rate, now_ms);
        }
        bucket
    }

    fn take_from(
        &mut self,
        rate: Rate,
        (block, site): (u64, Option<u64>),
        count: u32,
        now_ms: u64,
    ) -> Result<(), u64> {
        self.bucket(block, rate, now_ms).take(count, now_ms)?;
        let Some(site) = site else {
            return Ok(());
        };
        let taken = (self.bucket(site, rate.of_site(), now_ms)).take(count, now_ms);
        if taken.is_err() {
            self.bucket(block, rate, now_ms).tokens += f64::from(count);
        }
        taken
    }

    fn missing_from(&self, rate: Rate, (block, site): (u64, Option<u64>), now_ms: u64) -> u32 {
        let missing = self.missing(block, rate, now_ms);
        let of_site = site.map_or(0.0, |site| self.missing(site, rate.of_site(), now_ms));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most a burst, and not negative"
        )]
        let whole = missing.max(of_site / f64::from(BLOCKS_AT_ONCE)) as u32;
        whole
    }

    /// How many tokens a bucket lacks; one that isn't there is full.
    fn missing(&self, key: u64, rate: Rate, now_ms: u64) -> f64 {
        let place = self.places.get(&key);
        let bucket = place.and_then(|place| self.buckets.get(*place));
        let bucket = bucket.filter(|bucket| bucket.rate == rate);
        bucket.map_or(0.0, |bucket| {
            f64::from(rate.burst.max(1)) - bucket.tokens_at(now_ms)
        })
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
mod tests;
