//! From a server name to where its federation API listens
//! (<https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>).
//!
//! The decisions are plain functions of values ([`start`], [`delegated`], [`by_srv`]); [`resolve`]
//! asks a [`Lookup`] between them. [`Discovery`] caches what came out.

use std::{
    collections::HashMap,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ruma::{OwnedServerName, ServerName};

/// The port of the federation API where nothing else is said.
const DEFAULT_PORT: u16 = 8448;
/// How long a `.well-known` answer without caching headers holds.
pub const WELL_KNOWN_DEFAULT: Duration = Duration::from_hours(24);
/// The longest that any `.well-known` answer holds.
const WELL_KNOWN_MAX: Duration = Duration::from_hours(48);
/// The shortest, so that `max-age=0` doesn't cost a request per request.
const WELL_KNOWN_MIN: Duration = Duration::from_mins(5);
/// How long the first failure is remembered; doubled with each further one, up to an hour.
const ERROR_MIN: Duration = Duration::from_mins(1);
const ERROR_MAX: Duration = Duration::from_hours(1);
/// A route isn't trusted for longer, as DNS may change underneath it.
const ROUTE_MAX: Duration = Duration::from_mins(5);
/// SRV targets that are tried.
const MAX_TARGETS: usize = 4;
/// Names whose discovery is remembered.
const CACHE_SIZE: usize = 4096;

/// Where to connect to and how to present oneself there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// To be tried in this order.
    pub targets: Vec<Target>,
    /// The `Host` header.
    pub host_header: String,
    /// The name or address that the certificate must be valid for (an IPv6 address without brackets).
    pub certificate_name: String,
}

/// One place to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An address, no lookup needed.
    Address(SocketAddr),
    /// A host name to look up (CNAME, AAAA, A), and a port.
    Host(String, u16),
}

/// An SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// Lower is tried first.
    pub priority: u16,
    /// Among equal priorities, heavier is tried first.
    pub weight: u16,
    /// The host, with or without final dot.
    pub target: String,
    /// The port.
    pub port: u16,
}

/// What the first look at a server name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Steps 1 and 2: nothing to ask.
    Known(Route),
    /// Step 3: ask this host for `/.well-known/matrix/server`.
    WellKnown(String),
}

/// The answer to a request for `/.well-known/matrix/server`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WellKnown {
    /// `m.server`; `None` when there is no valid answer.
    pub server: Option<OwnedServerName>,
    /// How long this may be cached, as the answer's headers say; `None` when they don't.
    pub max_age: Option<Duration>,
}

/// The I/O that discovery needs.
pub trait Lookup: Send + Sync {
    /// `GET https://<host>/.well-known/matrix/server`. Any failure is an answer without a server.
    fn well_known(&self, host: &str) -> impl Future<Output = WellKnown> + Send;
    /// The SRV records of a name; empty when there are none. `Err` only when DNS itself failed.
    fn srv(&self, name: &str) -> impl Future<Output = Result<Vec<Srv>, String>> + Send;
}

/// An IP literal with its port, if the name is one.
fn literal(name: &ServerName) -> Option<(IpAddr, Option<u16>)> {
    let host = name.host();
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    Some((bare.parse().ok()?, name.port()))
}

/// Steps 1 and 2 for a server name or a delegated one (3.1, 3.2): those that need no SRV lookup.
fn explicit(name: &ServerName) -> Option<Route> {
    if let Some((ip, port)) = literal(name) {
        return Some(Route {
            targets: vec![Target::Address(SocketAddr::new(
                ip,
                port.unwrap_or(DEFAULT_PORT),
            ))],
            host_header: name.as_str().to_owned(),
            certificate_name: ip.to_string(),
        });
    }
    let port = name.port()?;
    Some(Route {
        targets: vec![Target::Host(name.host().to_owned(), port)],
        host_header: name.as_str().to_owned(),
        certificate_name: name.host().to_owned(),
    })
}

/// Steps 1, 2 and the beginning of 3.
pub fn start(name: &ServerName) -> Start {
    explicit(name).map_or_else(|| Start::WellKnown(name.host().to_owned()), Start::Known)
}

/// After `.well-known`: 3.1 and 3.2 are known; otherwise the host whose SRV records are to be asked
/// for (3.3 for a delegated name, step 4 without one).
pub fn delegated(host: &str, well_known: &WellKnown) -> Result<Route, String> {
    match &well_known.server {
        Some(server) => explicit(server).ok_or_else(|| server.host().to_owned()),
        None => Err(host.to_owned()),
    }
}

/// 3.3–3.5 and 4–6: the route by SRV records, or port 8448 when there are none.
pub fn by_srv(host: &str, mut records: Vec<Srv>) -> Route {
    records.sort_by_key(|srv| (srv.priority, u16::MAX - srv.weight));
    let mut targets: Vec<Target> = records
        .into_iter()
        // A target of "." says: decidedly not available here (RFC 2782).
        .filter_map(|srv| {
            let target = srv.target.trim_end_matches('.').to_owned();
            (!target.is_empty()).then_some(Target::Host(target, srv.port))
        })
        .take(MAX_TARGETS)
        .collect();
    if targets.is_empty() {
        targets.push(Target::Host(host.to_owned(), DEFAULT_PORT));
    }
    Route {
        targets,
        host_header: host.to_owned(),
        certificate_name: host.to_owned(),
    }
}

/// The whole procedure. Also says how long `.well-known` holds, if it was asked.
///
/// # Errors
/// DNS failed.
pub async fn resolve(
    name: &ServerName,
    lookup: &impl Lookup,
    well_known: impl AsyncFnOnce(String) -> WellKnown,
) -> Result<Route, String> {
    let host = match start(name) {
        Start::Known(route) => return Ok(route),
        Start::WellKnown(host) => host,
    };
    let answer = well_known(host.clone()).await;
    let host = match delegated(&host, &answer) {
        Ok(route) => return Ok(route),
        Err(host) => host,
    };
    let mut records = lookup.srv(&format!("_matrix-fed._tcp.{host}.")).await?;
    if records.is_empty() {
        records = lookup.srv(&format!("_matrix._tcp.{host}.")).await?;
    }
    Ok(by_srv(&host, records))
}

/// How long an answer is kept: valid ones as their headers say, within bounds; the `failures`-th
/// failure in a row for longer each time.
pub fn cache_for(answer: &WellKnown, failures: u32) -> Duration {
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
    lookup: L,
    well_known: Mutex<HashMap<String, CachedWellKnown>>,
    routes: Mutex<HashMap<OwnedServerName, (Arc<Route>, Instant)>>,
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
        let route = resolve(name, &self.lookup, async |host| {
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Fake {
        well_known: HashMap<&'static str, &'static str>,
        srv: HashMap<&'static str, Vec<(&'static str, u16)>>,
        asked: AtomicUsize,
    }

    impl Lookup for Fake {
        async fn well_known(&self, host: &str) -> WellKnown {
            self.asked.fetch_add(1, Ordering::Relaxed);
            WellKnown {
                server: self
                    .well_known
                    .get(host)
                    .and_then(|name| (*name).try_into().ok()),
                max_age: None,
            }
        }

        async fn srv(&self, name: &str) -> Result<Vec<Srv>, String> {
            let records = self
                .srv
                .get(name.trim_end_matches('.'))
                .cloned()
                .unwrap_or_default();
            Ok(records
                .into_iter()
                .zip(0..)
                .map(|((target, port), priority)| Srv {
                    priority,
                    weight: 0,
                    target: target.to_owned(),
                    port,
                })
                .collect())
        }
    }

    fn describe(route: &Route) -> String {
        let targets: Vec<String> = route
            .targets
            .iter()
            .map(|target| match target {
                Target::Address(address) => address.to_string(),
                Target::Host(host, port) => format!("{host}:{port}"),
            })
            .collect();
        format!(
            "{} | {} | {}",
            targets.join(" "),
            route.host_header,
            route.certificate_name
        )
    }

    #[tokio::test]
    async fn every_case_of_the_specification() {
        let fake = Fake {
            well_known: HashMap::from([
                ("wk-ip.example", "10.0.0.1"),
                ("wk-ip6-port.example", "[2001:db8::1]:444"),
                ("wk-port.example", "matrix.wk.example:443"),
                ("wk-srv.example", "hosted.example"),
                ("wk-srv-old.example", "old.example"),
                ("wk-plain.example", "plain-delegate.example"),
                ("wk-bad.example", "not a name"),
            ]),
            srv: HashMap::from([
                (
                    "_matrix-fed._tcp.hosted.example",
                    vec![("a.host.example.", 1000), ("b.host.example", 2000)],
                ),
                ("_matrix._tcp.hosted.example", vec![("wrong.example", 1)]),
                ("_matrix._tcp.old.example", vec![("old.host.example", 3000)]),
                (
                    "_matrix-fed._tcp.srv.example",
                    vec![("s.host.example", 4000)],
                ),
                (
                    "_matrix._tcp.srv-old.example",
                    vec![("so.host.example", 5000)],
                ),
                ("_matrix-fed._tcp.none.example", vec![(".", 0)]),
                // Explicit ports and literals never ask for SRV.
                ("_matrix-fed._tcp.port.example", vec![("wrong.example", 1)]),
            ]),
            ..Fake::default()
        };
        for (name, expected) in [
            // Step 1
            ("1.2.3.4", "1.2.3.4:8448 | 1.2.3.4 | 1.2.3.4"),
            ("1.2.3.4:80", "1.2.3.4:80 | 1.2.3.4:80 | 1.2.3.4"),
            (
                "[2001:db8::2]",
                "[2001:db8::2]:8448 | [2001:db8::2] | 2001:db8::2",
            ),
            (
                "[2001:db8::2]:81",
                "[2001:db8::2]:81 | [2001:db8::2]:81 | 2001:db8::2",
            ),
            // Step 2
            (
                "port.example:99",
                "port.example:99 | port.example:99 | port.example",
            ),
            // Step 3.1
            ("wk-ip.example", "10.0.0.1:8448 | 10.0.0.1 | 10.0.0.1"),
            (
                "wk-ip6-port.example",
                "[2001:db8::1]:444 | [2001:db8::1]:444 | 2001:db8::1",
            ),
            // Step 3.2
            (
                "wk-port.example",
                "matrix.wk.example:443 | matrix.wk.example:443 | matrix.wk.example",
            ),
            // Step 3.3
            (
                "wk-srv.example",
                "a.host.example:1000 b.host.example:2000 | hosted.example | hosted.example",
            ),
            // Step 3.4
            (
                "wk-srv-old.example",
                "old.host.example:3000 | old.example | old.example",
            ),
            // Step 3.5
            (
                "wk-plain.example",
                "plain-delegate.example:8448 | plain-delegate.example | plain-delegate.example",
            ),
            // An invalid answer counts as none: step 6
            (
                "wk-bad.example",
                "wk-bad.example:8448 | wk-bad.example | wk-bad.example",
            ),
            // Step 4
            (
                "srv.example",
                "s.host.example:4000 | srv.example | srv.example",
            ),
            // Step 5
            (
                "srv-old.example",
                "so.host.example:5000 | srv-old.example | srv-old.example",
            ),
            // Step 6
            (
                "plain.example",
                "plain.example:8448 | plain.example | plain.example",
            ),
            (
                "none.example",
                "none.example:8448 | none.example | none.example",
            ),
        ] {
            let name: OwnedServerName = name.try_into().unwrap();
            let route = resolve(&name, &fake, async |host| fake.well_known(&host).await)
                .await
                .unwrap();
            assert_eq!(describe(&route), expected, "{name}");
        }
    }

    #[test]
    fn srv_order_is_priority_then_weight_and_bounded() {
        let srv = |priority, weight, target: &str| Srv {
            priority,
            weight,
            target: target.to_owned(),
            port: 1,
        };
        let route = by_srv(
            "h",
            vec![
                srv(20, 9, "d"),
                srv(10, 1, "c"),
                srv(10, 5, "b"),
                srv(0, 0, "a"),
                srv(30, 0, "e"),
            ],
        );
        assert_eq!(describe(&route), "a:1 b:1 c:1 d:1 | h | h");
    }

    #[tokio::test]
    async fn answers_are_cached_and_forgotten_routes_dont_ask_well_known_again() {
        let discovery = Discovery::new(Fake {
            well_known: HashMap::from([("a.example", "b.example:1")]),
            ..Fake::default()
        });
        for name in ["a.example", "missing.example"] {
            let name: OwnedServerName = name.try_into().unwrap();
            discovery.route(&name).await.unwrap();
            discovery.route(&name).await.unwrap();
            discovery.forget(&name);
            discovery.route(&name).await.unwrap();
        }
        assert_eq!(discovery.lookup.asked.load(Ordering::Relaxed), 2);
    }

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
