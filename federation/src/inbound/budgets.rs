//! How much other servers may ask of us: from the settings `rate_limits.federation_…`.
//!
//! A server that has signed its request is counted by its name, everybody else by the address. What is counted
//! before the signature has been checked is counted by the address too: nobody can use up what is another's.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::extract::ConnectInfo;
use http::{
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    request::Parts,
};
use rhizome_storage::Clock;
use ruma::ServerName;

use crate::{
    MatrixError,
    config::RateLimits,
    edge::limits::{Buckets, Rate, block_of},
};

/// Bodies up to this size are read without asking whether there is room.
const SMALL_BODY: usize = 64 << 10;
/// What a body may have that doesn't tell its size; no endpoint takes more.
const LARGEST_BODY: usize = 16 << 20;
/// The most bytes of larger bodies that are waited for or checked at a time: of all, and of one address.
const BODIES: usize = 256 << 20;
const BODIES_OF_ONE: usize = 48 << 20;

/// What a signed request counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Transaction,
    /// What is much at once.
    State,
    Other,
}

impl Kind {
    /// By the request's path.
    pub(crate) fn of(path: &str) -> Self {
        let mut segments = path.split('/').skip_while(|part| *part != "federation");
        // The API's name and its version.
        match segments.nth(2) {
            Some("send") => Self::Transaction,
            Some("state" | "state_ids" | "event_auth" | "send_join" | "publicRooms") => Self::State,
            _ => Self::Other,
        }
    }
}

/// What everybody has left.
#[derive(Debug)]
pub(crate) struct Budgets {
    rates: RateLimits,
    clock: Clock,
    servers: Buckets,
    unsigned: Buckets,
    keys: Buckets,
    bodies: Arc<Bodies>,
}

impl Budgets {
    pub(crate) fn new(rates: RateLimits, clock: Clock) -> Self {
        Self {
            rates,
            clock,
            servers: Buckets::default(),
            unsigned: Buckets::default(),
            keys: Buckets::default(),
            bodies: Arc::default(),
        }
    }

    /// A signed request of `origin`.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED`, as from the other functions.
    pub(crate) fn signed(&self, origin: &ServerName, path: &str) -> Result<(), MatrixError> {
        let kind = Kind::of(path);
        let rate = match kind {
            Kind::Transaction => self.rates.transaction,
            Kind::State => self.rates.state,
            Kind::Other => self.rates.other,
        };
        self.take(&self.servers, rate, (kind, origin), 1)
    }

    /// A request that needn't be signed.
    pub(crate) fn unsigned(&self, peer: Option<IpAddr>) -> Result<(), MatrixError> {
        self.by_address(&self.unsigned, self.rates.unsigned, peer, 1)
    }

    /// Keys of so many servers that are asked for, or must be fetched.
    pub(crate) fn keys(&self, peer: Option<IpAddr>, servers: usize) -> Result<(), MatrixError> {
        self.by_address(&self.keys, self.rates.keys, peer, servers)
    }

    /// So many events of senders from outside of their room, whose keys must be fetched, that `origin` tells us of.
    pub(crate) fn newcomers(&self, origin: &ServerName, events: usize) -> Result<(), MatrixError> {
        self.take(&self.keys, self.rates.keys, origin, events)
    }

    /// Room for a request's body until it is known who sent it.
    pub(crate) fn body(&self, head: &Parts) -> Result<Option<Held>, MatrixError> {
        let size = head.headers.get(CONTENT_LENGTH);
        let size = size.and_then(|size| size.to_str().ok()?.parse().ok());
        let size = size.unwrap_or(LARGEST_BODY).min(LARGEST_BODY);
        let is_announced = |name| head.headers.contains_key(name);
        let is_empty = head.method == http::Method::GET
            && !is_announced(CONTENT_LENGTH)
            && !is_announced(TRANSFER_ENCODING);
        if !self.rates.enabled || size <= SMALL_BODY || is_empty {
            return Ok(None);
        }
        let held = Bodies::hold(&self.bodies, peer_of(head), size);
        held.map(Some)
            .ok_or_else(|| MatrixError::limit_exceeded(1_000))
    }

    /// Within one process there are no addresses.
    fn by_address(
        &self,
        buckets: &Buckets,
        rate: Rate,
        peer: Option<IpAddr>,
        count: usize,
    ) -> Result<(), MatrixError> {
        peer.map_or(Ok(()), |peer| {
            self.take(buckets, rate, block_of(peer), count)
        })
    }

    fn take(
        &self,
        buckets: &Buckets,
        rate: Rate,
        who: impl Hash,
        count: usize,
    ) -> Result<(), MatrixError> {
        if !self.rates.enabled {
            return Ok(());
        }
        let now = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        let count = u32::try_from(count)
            .unwrap_or(u32::MAX)
            .min(rate.burst.max(1));
        let taken = buckets.take(rate, who, count, now);
        taken.map_err(MatrixError::limit_exceeded)
    }
}

/// The address that a request came from.
pub(crate) fn peer_of(head: &Parts) -> Option<IpAddr> {
    let socket = head.extensions.get::<ConnectInfo<SocketAddr>>();
    socket.map(|info| info.0.ip())
}

/// The bodies that are waited for or being checked.
#[derive(Debug, Default)]
struct Bodies(Mutex<HashMap<Option<IpAddr>, usize>>);

/// Room for one of them.
#[derive(Debug)]
pub struct Held {
    bodies: Arc<Bodies>,
    of: Option<IpAddr>,
    size: usize,
}

impl Bodies {
    fn lock(&self) -> MutexGuard<'_, HashMap<Option<IpAddr>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(bodies: &Arc<Self>, peer: Option<IpAddr>, size: usize) -> Option<Held> {
        let of = peer.map(block_of);
        let mut held = bodies.lock();
        let (own, all) = (
            held.get(&of).copied().unwrap_or(0),
            held.values().sum::<usize>(),
        );
        if own + size > BODIES_OF_ONE || all + size > BODIES {
            return None;
        }
        held.insert(of, own + size);
        drop(held);
        Some(Held {
            bodies: Arc::clone(bodies),
            of,
            size,
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.bodies.lock();
        if let Some(own) = held.get_mut(&self.of) {
            *own = own.saturating_sub(self.size);
            if *own == 0 {
                held.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    fn budgets(enabled: bool) -> Budgets {
        let rate = Rate {
            per_second: 1.0,
            burst: 2,
        };
        let rates = RateLimits {
            enabled,
            transaction: rate,
            state: rate,
            other: rate,
            unsigned: rate,
            keys: rate,
        };
        Budgets::new(rates, Clock::manual(0))
    }

    #[test]
    fn requests_are_of_a_kind_by_their_path() {
        for (path, kind) in [
            ("/_matrix/federation/v1/send/1", Kind::Transaction),
            ("/_matrix/federation/v1/state/!a:b", Kind::State),
            ("/_matrix/federation/v1/state_ids/!a:b", Kind::State),
            ("/_matrix/federation/v1/event_auth/!a:b/$c", Kind::State),
            ("/_matrix/federation/v2/send_join/!a:b/$c", Kind::State),
            ("/_matrix/federation/v1/publicRooms", Kind::State),
            ("/_matrix/federation/v1/backfill/!a:b", Kind::Other),
            ("/_matrix/federation/v1/event/send", Kind::Other),
            ("/_matrix/key/v2/server", Kind::Other),
            ("/", Kind::Other),
        ] {
            assert_eq!(Kind::of(path), kind, "{path}");
        }
    }

    #[test]
    fn each_server_has_a_budget_for_each_kind() {
        let budgets = budgets(true);
        let (a, b) = (server_name!("a.org"), server_name!("b.org"));
        let (send, state) = (
            "/_matrix/federation/v1/send/1",
            "/_matrix/federation/v1/state/x",
        );
        for _ in 0..2 {
            assert!(budgets.signed(a, send).is_ok());
        }
        let error = budgets.signed(a, send).unwrap_err();
        assert_eq!(error, MatrixError::limit_exceeded(1_000));
        assert!(budgets.signed(a, state).is_ok());
        assert!(budgets.signed(b, send).is_ok());
        budgets.clock.advance(std::time::Duration::from_secs(1));
        assert!(budgets.signed(a, send).is_ok());
    }

    #[test]
    fn addresses_have_budgets_if_there_are_any() {
        let budgets = budgets(true);
        let peer = |address: &str| Some(address.parse().unwrap());
        assert!(budgets.keys(peer("2001:db8::1"), 1).is_ok());
        // More than a bucket holds takes all that it holds.
        assert!(budgets.keys(peer("2001:db8::2"), 100).is_err());
        assert!(budgets.keys(peer("2001:db8:0:1::2"), 100).is_ok());
        for _ in 0..9 {
            assert!(budgets.unsigned(None).is_ok());
        }
    }

    #[test]
    fn switched_off_nothing_is_counted() {
        let budgets = budgets(false);
        for _ in 0..9 {
            assert!(budgets.signed(server_name!("a.org"), "/").is_ok());
            assert!(budgets.unsigned(Some([192, 0, 2, 1].into())).is_ok());
        }
    }

    #[test]
    fn bodies_have_room_until_they_are_checked() {
        let budgets = budgets(true);
        let head = |address: [u8; 4], size: Option<usize>| {
            let mut request = http::Request::put("/");
            if let Some(size) = size {
                request = request.header(CONTENT_LENGTH, size);
            }
            let peer = SocketAddr::from((address, 1));
            let request = request.extension(ConnectInfo(peer)).body(()).unwrap();
            request.into_parts().0
        };
        let one = head([192, 0, 2, 1], None);
        let held: Vec<_> = (0..3).map(|_| budgets.body(&one).unwrap()).collect();
        assert!(budgets.body(&one).is_err());
        assert!(
            budgets
                .body(&head([192, 0, 2, 1], Some(SMALL_BODY)))
                .is_ok()
        );
        let others = (2..9).map(|n| head([192, 0, 2, n], Some(40 << 20)));
        let others: Vec<_> = others
            .flat_map(|head| [budgets.body(&head), budgets.body(&head)])
            .collect();
        assert_eq!(others.iter().filter(|held| held.is_ok()).count(), 13);
        drop(held);
        assert!(budgets.body(&one).unwrap().is_some());
        drop(others);
        assert!(budgets.bodies.lock().is_empty());
    }
}
