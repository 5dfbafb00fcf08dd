//! Rate limits: one token bucket per kind of request and user or address, in bounded memory.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, PoisonError},
};

use crate::config::{Rate, RateLimits};

/// Buckets kept at most; a full table forgets those that have refilled, then all.
const MAX_BUCKETS: usize = 100_000;

/// What a request counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Not limited.
    Free,
    /// Sends an event.
    Message,
    /// Makes an account.
    Registration,
    /// Tries a secret.
    Login,
    /// Joins or makes a room.
    Join,
    /// Invites somebody.
    Invite,
    /// Anything else that the specification calls rate-limited.
    Other,
}

/// All buckets.
pub struct Limits {
    rates: RateLimits,
    hasher: RandomState,
    buckets: Mutex<HashMap<u64, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at_ms: u64,
    rate: Rate,
}

impl Bucket {
    fn tokens_at(&self, now_ms: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since start fit")]
        let elapsed = now_ms.saturating_sub(self.at_ms) as f64 / 1000.0;
        (self.tokens + elapsed * self.rate.per_second).min(f64::from(self.rate.burst.max(1)))
    }
}

impl Limits {
    /// Empty buckets with these rates.
    pub fn new(rates: &RateLimits) -> Self {
        Self {
            rates: rates.clone(),
            hasher: RandomState::new(),
            buckets: Mutex::default(),
        }
    }

    /// Takes one token from the bucket of `kind` and `who` at `now_ms` (monotonic milliseconds).
    /// When it is empty: the milliseconds after which to try again.
    pub fn take(&self, kind: Kind, who: impl Hash, now_ms: u64) -> Result<(), u64> {
        let Some(rate) = self.rate(kind) else {
            return Ok(());
        };
        // 64 bits of a randomly keyed hash stand for the caller: fixed memory, and nobody can aim
        // for another's bucket.
        let key = self.hasher.hash_one((kind, who));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
            buckets
                .retain(|_, bucket| bucket.tokens_at(now_ms) + 0.5 < f64::from(bucket.rate.burst));
            if buckets.len() >= MAX_BUCKETS {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket {
            tokens: f64::from(rate.burst.max(1)),
            at_ms: now_ms,
            rate,
        });
        let tokens = bucket.tokens_at(now_ms);
        bucket.at_ms = now_ms;
        if tokens >= 1.0 {
            bucket.tokens = tokens - 1.0;
            return Ok(());
        }
        bucket.tokens = tokens;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to a day and positive"
        )]
        let wait = ((1.0 - tokens) / rate.per_second.max(1e-9) * 1000.0)
            .clamp(1.0, 86_400_000.0)
            .ceil() as u64;
        Err(wait)
    }

    fn rate(&self, kind: Kind) -> Option<Rate> {
        if !self.rates.enabled {
            return None;
        }
        Some(match kind {
            Kind::Free => return None,
            Kind::Message => self.rates.message,
            Kind::Registration => self.rates.registration,
            Kind::Login => self.rates.login,
            Kind::Join => self.rates.join,
            Kind::Invite => self.rates.invite,
            Kind::Other => self.rates.other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(per_second: f64, burst: u32, enabled: bool) -> Limits {
        let rate = Rate { per_second, burst };
        Limits::new(&RateLimits {
            enabled,
            message: rate,
            ..RateLimits::default()
        })
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let limits = limits(2.0, 3, true);
        for _ in 0..3 {
            assert_eq!(limits.take(Kind::Message, "a", 1000), Ok(()));
        }
        assert_eq!(limits.take(Kind::Message, "a", 1000), Err(500));
        assert_eq!(
            limits.take(Kind::Message, "b", 1000),
            Ok(()),
            "others have their own bucket"
        );
        assert_eq!(limits.take(Kind::Message, "a", 1500), Ok(()));
        assert_eq!(limits.take(Kind::Message, "a", 1500), Err(500));
    }

    #[test]
    fn switched_off_nothing_is_counted() {
        let limits = limits(0.0, 0, false);
        for _ in 0..1000 {
            assert_eq!(limits.take(Kind::Message, "a", 0), Ok(()));
        }
        assert!(limits.buckets.lock().unwrap().is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let limits = limits(0.001, 5, true);
        for n in 0..MAX_BUCKETS + 10 {
            let _ = limits.take(Kind::Message, n, 0);
        }
        assert!(limits.buckets.lock().unwrap().len() <= MAX_BUCKETS);
    }
}
