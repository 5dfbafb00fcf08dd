//! What discovery has found, and how long that holds.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ruma::{OwnedServerName, ServerName};

use super::{Lookup, Route, WellKnown, resolve};

/// How long a `.well-known` answer without caching headers holds.
const WELL_KNOWN_DEFAULT: Duration = Duration::from_hours(24);
/// The longest that any `.well-known` answer holds.
const WELL_KNOWN_MAX: Duration = Duration::from_hours(48);
/// The shortest, so that `max-age=0` doesn't cost a request per request.
const WELL_KNOWN_MIN: Duration = Duration::from_mins(5);
/// How long the first failure is remembered; doubled with each further one, up to an hour.
const ERROR_MIN: Duration = Duration::from_mins(1);
const ERROR_MAX: Duration = Duration::from_hours(1);
/// A route isn't trusted for longer, as DNS may change underneath it.
const ROUTE_MAX: Duration = Duration::from_mins(5);
/// Names whose discovery is remembered.
const CACHE_SIZE: usize = 4096;

/// How long an answer is kept: valid ones as their headers say, within bounds; the `failures`-th
/// failure in a row for longer each time.
fn cache_for(answer: &WellKnown, failures: u32) -> Duration {
    if answer.server.is_some() {
        answer
            .max_age
            .unwrap_or(WELL_KNOWN_DEFAULT)
            .clamp(WELL_KNOWN_MIN, WELL_KNOWN_MAX)
    } else {
        ERROR_MIN
            .saturating_mul(1 << failures.saturating_sub(1).min(10))
            .min(ERROR_MAX)
    }
}

/// The age that `Cache-Control` or `Expires` allow. `now` and `expires` are seconds since 1970.
pub fn max_age(cache_control: Option<&str>, expires: Option<i64>, now: i64) -> Option<Duration> {
    for directive in cache_control.unwrap_or_default().split(',') {
        let directive = directive.trim().to_ascii_lowercase();
        if directive == "no-store" || directive == "no-cache" {
            return Some(Duration::ZERO);
        }
        if let Some(seconds) = directive.strip_prefix("max-age=")
            && let Ok(seconds) = seconds.trim_matches('"').parse()
        {
            return Some(Duration::from_secs(seconds));
        }
    }
    Some(Duration::from_secs(
        u64::try_from(expires?.saturating_sub(now)).unwrap_or(0),
    ))
}

/// Discovery with its caches; cheap to clone.
#[derive(Debug)]
pub struct Discovery<L> {
    pub(super) lookup: L,
    well_known: Mutex<HashMap<String, CachedWellKnown>>,
    routes: Mutex<HashMap<OwnedServerName, (Arc<Route>, Instant)>>,
    /// What is left to chance. It is drawn once for each server: the same records give the same route, so that
    /// connections are kept, while many servers spread over the targets as the weights say.
    chance: RandomState,
}

#[derive(Debug, Clone)]
struct CachedWellKnown {
    answer: WellKnown,
    until: Instant,
    failures: u32,
}

impl<L: Lookup> Discovery<L> {
    /// Discovery that asks `lookup`.
    pub fn new(lookup: L) -> Self {
        Self {
            lookup,
            well_known: Mutex::default(),
            routes: Mutex::default(),
            chance: RandomState::new(),
        }
    }

    /// The route to a server, cached for at most five minutes.
    ///
    /// # Errors
    /// DNS failed.
    pub async fn route(&self, name: &ServerName) -> Result<Arc<Route>, String> {
        let now = Instant::now();
        if let Some((route, until)) = lock(&self.routes).get(name)
            && *until > now
        {
            return Ok(route.clone());
        }
        let seed = self.chance.hash_one(name.as_str());
        let route = resolve(name, &self.lookup, seed, async |host| {
            self.well_known(&host).await
        })
        .await?;
        let route = Arc::new(route);
        let mut routes = lock(&self.routes);
        make_room(&mut routes, |(_, until)| *until);
        routes.insert(name.to_owned(), (route.clone(), now + ROUTE_MAX));
        Ok(route)
    }

    /// Forgets the route to a server that couldn't be reached, so that the next attempt looks again.
    pub fn forget(&self, name: &ServerName) {
        lock(&self.routes).remove(name);
    }

    /// Forgets what was found of a server, so that its `.well-known` is asked for again, too.
    pub fn forget_all(&self, name: &ServerName) {
        self.forget(name);
        lock(&self.well_known).remove(name.host());
    }

    async fn well_known(&self, host: &str) -> WellKnown {
        let known = lock(&self.well_known).get(host).cloned();
        if let Some(known) = &known
            && known.until > Instant::now()
        {
            return known.answer.clone();
        }
        let answer = self.lookup.well_known(host).await;
        let failures = match (&answer.server, &known) {
            (Some(_), _) => 0,
            (None, Some(known)) => known.failures.saturating_add(1),
            (None, None) => 1,
        };
        let until = Instant::now() + cache_for(&answer, failures);
        let mut cache = lock(&self.well_known);
        make_room(&mut cache, |known| known.until);
        cache.insert(
            host.to_owned(),
            CachedWellKnown {
                answer: answer.clone(),
                until,
                failures,
            },
        );
        answer
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a cache bounded: what has expired goes first, then whatever expires soonest.
fn make_room<K: Clone + Eq + std::hash::Hash, V>(
    cache: &mut HashMap<K, V>,
    until: impl Fn(&V) -> Instant,
) {
    if cache.len() < CACHE_SIZE {
        return;
    }
    let now = Instant::now();
    cache.retain(|_, entry| until(entry) > now);
    if cache.len() >= CACHE_SIZE {
        let mut ends: Vec<Instant> = cache.values().map(&until).collect();
        ends.sort_unstable();
        let cut = ends[ends.len() / 4];
        cache.retain(|_, entry| until(entry) > cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_times_are_bounded() {
        let hours = |h: u64| Duration::from_secs(h * 3600);
        let good = |max_age| WellKnown {
            server: Some("b.example".try_into().unwrap()),
            max_age,
        };
        assert_eq!(cache_for(&good(None), 0), hours(24));
        assert_eq!(cache_for(&good(Some(hours(1))), 0), hours(1));
        assert_eq!(cache_for(&good(Some(hours(1000))), 0), hours(48));
        assert_eq!(
            cache_for(&good(Some(Duration::ZERO)), 0),
            Duration::from_mins(5)
        );
        let bad = WellKnown {
            server: None,
            max_age: Some(hours(48)),
        };
        assert_eq!(cache_for(&bad, 1), Duration::from_mins(1));
        assert_eq!(cache_for(&bad, 3), Duration::from_mins(4));
        assert_eq!(cache_for(&bad, 1000), hours(1));
    }

    #[test]
    fn caching_headers() {
        let age = |text, expires| max_age(text, expires, 1000).map(|age| age.as_secs());
        assert_eq!(age(None, None), None);
        assert_eq!(age(Some("public, max-age=60"), None), Some(60));
        assert_eq!(age(Some("Max-Age=\"60\""), Some(5000)), Some(60));
        assert_eq!(age(Some("no-store"), Some(5000)), Some(0));
        assert_eq!(age(Some("max-age=-5"), None), None);
        assert_eq!(age(None, Some(1500)), Some(500));
        assert_eq!(age(None, Some(10)), Some(0));
    }
}
