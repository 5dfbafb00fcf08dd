//! How much other servers may ask of us: from the settings `rate_limits.federation_…`.
//!
//! A server that has signed its request is counted by its name, everybody else by the address. What is counted
//! before the signature has been checked is counted by the address too: nobody can use up what is another's.

use std::{hash::Hash, net::IpAddr, sync::Arc};

use rhizome_edge::{
    Bodies, Place, Places, Reservation,
    limits::{Buckets, Rate, ms},
};
use rhizome_storage::Clock;
use ruma::{OwnedServerName, ServerName};

use crate::{
    MatrixError,
    config::RateLimits,
    keyed::{Keyed, KeyedGuard},
};

/// The most bytes of larger bodies that are waited for, checked or worked on at a time: of all, and of one address; of one
/// server when it is known which.
const BODIES: usize = 256 << 20;
const BODIES_OF_ONE: usize = 48 << 20;
/// How many questions of one server for something large may be worked on or wait for that.
const MAX_WAITING_STATES: usize = 20;

/// How many files one server may be given at a time.
const MAX_DOWNLOADS: usize = 256;
/// How many requests of one server may be under way.
const MAX_UNDER_WAY: usize = 300;

/// Messages to devices of ours that one server may make us keep: as many at once as a transaction may hold. Servers
/// that come back after a day have as many for us; who goes on like this has to wait, and loses nothing.
const MESSAGES: Rate = Rate {
    per_second: 500.0,
    burst: 20_000,
};

/// Changes of their users' devices of which one server may tell us: each may be news for many here.
const DEVICE_UPDATES: Rate = Rate {
    per_second: 20.0,
    burst: 2_000,
};

/// Presences of their users of which one server may tell us.
const PRESENCES: Rate = Rate {
    per_second: 50.0,
    burst: 5_000,
};

/// What a signed request counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A transaction.
    Transaction,
    /// What is much at once.
    State,
    /// A file, or a picture of it.
    Media,
    /// Everything else.
    Other,
}

/// What everybody has left.
#[derive(Debug)]
pub(crate) struct Budgets {
    rates: RateLimits,
    clock: Clock,
    servers: Buckets,
    unsigned: Buckets,
    keys: Buckets,
    messages: Buckets,
    device_updates: Buckets,
    presences: Buckets,
    bodies: Arc<Bodies>,
    /// Servers that are being told something large, one answer of each at a time.
    states: Keyed<OwnedServerName>,
    /// Files that servers are being given.
    downloads: Places<OwnedServerName>,
    /// Requests that are being answered.
    under_way: Places<OwnedServerName>,
}

impl Budgets {
    pub(crate) fn new(rates: RateLimits, clock: Clock) -> Self {
        Self {
            rates,
            clock,
            servers: Buckets::default(),
            unsigned: Buckets::default(),
            keys: Buckets::default(),
            messages: Buckets::default(),
            device_updates: Buckets::default(),
            presences: Buckets::default(),
            bodies: Bodies::new(BODIES, BODIES_OF_ONE),
            states: Keyed::default(),
            downloads: Places::default(),
            under_way: Places::default(),
        }
    }

    /// A signed request of `origin`.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED`, as from the other functions.
    pub(crate) fn signed(&self, origin: &ServerName, kind: Kind) -> Result<(), MatrixError> {
        let rate = match kind {
            Kind::Transaction => self.rates.transaction,
            Kind::State => self.rates.state,
            Kind::Media => self.rates.media,
            Kind::Other => self.rates.other,
        };
        self.take(&self.servers, rate, (kind, origin), 1)
    }

    /// A place for a file that a server is being given, which is open until then.
    pub(crate) fn download(
        &self,
        server: OwnedServerName,
    ) -> Result<Place<OwnedServerName>, MatrixError> {
        let place = self.downloads.take(server, MAX_DOWNLOADS);
        place.ok_or_else(|| MatrixError::limit_exceeded(1_000))
    }

    /// A place for a signed request, until it is answered; `None`: it needs none.
    pub(crate) fn under_way(
        &self,
        server: &ServerName,
    ) -> Result<Option<Place<OwnedServerName>>, MatrixError> {
        if !self.rates.enabled {
            return Ok(None);
        }
        let place = self.under_way.take(server.to_owned(), MAX_UNDER_WAY);
        place
            .map(Some)
            .ok_or_else(|| MatrixError::limit_exceeded(1_000))
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

    /// So many messages to devices that `origin` wants kept.
    pub(crate) fn messages(&self, origin: &ServerName, messages: usize) -> Result<(), MatrixError> {
        self.take(&self.messages, MESSAGES, origin, messages)
    }

    /// So many changes of devices of which `origin` tells us.
    pub(crate) fn device_updates(
        &self,
        origin: &ServerName,
        updates: usize,
    ) -> Result<(), MatrixError> {
        self.take(&self.device_updates, DEVICE_UPDATES, origin, updates)
    }

    /// One presence that `origin` tells us.
    pub(crate) fn presence(&self, origin: &ServerName) -> Result<(), MatrixError> {
        self.take(&self.presences, PRESENCES, origin, 1)
    }

    /// What reserves memory for a request's body until it is known who sent it.
    pub(crate) fn reservation(&self, peer: Option<IpAddr>) -> Option<Reservation> {
        self.rates.enabled.then(|| self.bodies.reservation(peer))
    }

    /// A server's turn to have a large answer looked together.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED` if too many of its questions wait already.
    pub(crate) async fn turn_of(
        &self,
        who: &OwnedServerName,
    ) -> Result<KeyedGuard<OwnedServerName>, MatrixError> {
        let turn = self.states.lock_among(who.clone(), MAX_WAITING_STATES);
        turn.await.ok_or_else(|| MatrixError::limit_exceeded(1_000))
    }

    /// Within one process there are no addresses.
    fn by_address(
        &self,
        buckets: &Buckets,
        rate: Rate,
        peer: Option<IpAddr>,
        count: usize,
    ) -> Result<(), MatrixError> {
        let Some(peer) = peer.filter(|_| self.rates.enabled) else {
            return Ok(());
        };
        let taken = buckets.take_from(rate, ((), peer), at_most(count, rate), self.now_ms());
        taken.map_err(MatrixError::limit_exceeded)
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
        let taken = buckets.take(rate, who, at_most(count, rate), self.now_ms());
        taken.map_err(MatrixError::limit_exceeded)
    }

    fn now_ms(&self) -> u64 {
        ms(self.clock.monotonic())
    }
}

/// Who asks for more than can ever be had at once waits for all there is.
fn at_most(count: usize, rate: Rate) -> u32 {
    u32::try_from(count)
        .unwrap_or(u32::MAX)
        .min(rate.burst.max(1))
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_immediate;
    use ruma::{owned_server_name, server_name};

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
            media: rate,
            other: rate,
            unsigned: rate,
            keys: rate,
            ..RateLimits::default()
        };
        Budgets::new(rates, Clock::manual(0))
    }

    #[test]
    fn each_server_has_a_budget_for_each_kind() {
        let budgets = budgets(true);
        let (a, b) = (server_name!("a.org"), server_name!("b.org"));
        let (send, state) = (Kind::Transaction, Kind::State);
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
    fn a_server_is_given_so_many_files_at_a_time() {
        let budgets = budgets(true);
        let give = |server: &str| budgets.download(server.try_into().unwrap());
        let mut given: Vec<_> = (0..MAX_DOWNLOADS)
            .map(|_| give("a.example").unwrap())
            .collect();
        assert_eq!(give("a.example").unwrap_err().errcode, "M_LIMIT_EXCEEDED");
        assert!(give("b.example").is_ok());
        given.pop();
        assert!(give("a.example").is_ok());
    }

    #[test]
    fn a_server_has_so_many_requests_under_way() {
        let budgets = budgets(true);
        let (a, b) = (server_name!("a.org"), server_name!("b.org"));
        let mut held: Vec<_> = (0..MAX_UNDER_WAY).map(|_| budgets.under_way(a)).collect();
        assert!(held.iter().all(|place| matches!(place, Ok(Some(_)))));
        let refused = budgets.under_way(a).map(drop).unwrap_err();
        assert_eq!(refused.errcode, "M_LIMIT_EXCEEDED");
        assert!(budgets.under_way(b).is_ok());
        held.pop();
        assert!(budgets.under_way(a).is_ok());
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
    fn messages_to_devices_are_counted_one_by_one() {
        let budgets = budgets(true);
        let (a, b) = (server_name!("a.org"), server_name!("b.org"));
        assert!(budgets.messages(a, 0).is_ok());
        assert!(budgets.messages(a, 19_000).is_ok());
        assert!(budgets.messages(a, 1_500).is_err());
        assert!(budgets.messages(b, 20_000).is_ok());
        budgets.clock.advance(std::time::Duration::from_secs(1));
        assert!(budgets.messages(a, 1_500).is_ok());
    }

    #[test]
    fn changes_of_devices_are_counted_one_by_one() {
        let budgets = budgets(true);
        let (a, b) = (server_name!("a.org"), server_name!("b.org"));
        assert!(budgets.device_updates(a, 1_990).is_ok());
        assert!(budgets.device_updates(a, 30).is_err());
        assert!(budgets.device_updates(b, 100).is_ok());
        budgets.clock.advance(std::time::Duration::from_secs(1));
        assert!(budgets.device_updates(a, 30).is_ok());
    }

    #[test]
    fn switched_off_nothing_is_counted() {
        let budgets = budgets(false);
        for _ in 0..9 {
            assert!(budgets.signed(server_name!("a.org"), Kind::Other).is_ok());
            assert!(budgets.unsigned(Some([192, 0, 2, 1].into())).is_ok());
        }
    }

    #[test]
    fn bodies_have_memory_until_they_are_checked() {
        let budgets = budgets(true);
        let of = |n: u8| budgets.reservation(Some([192, 0, 2, n].into())).unwrap();
        let mut of_one: Vec<_> = (0..4).map(|_| of(1)).collect();
        let fits: Vec<_> = of_one.iter_mut().map(|one| one.grow_to(16 << 20)).collect();
        assert_eq!(fits, [true, true, true, false]);
        let mut of_others: Vec<_> = (2..9).map(of).collect();
        let fits = of_others.iter_mut().map(|one| one.grow_to(40 << 20));
        assert_eq!(fits.filter(|fits| *fits).count(), 5);
        drop((of_one, of_others));
        assert_eq!(budgets.bodies.held(), 0);
    }

    #[tokio::test]
    async fn a_server_has_one_large_answer_at_a_time() {
        let (budgets, who) = (budgets(true), owned_server_name!("a.example"));
        let turn = budgets.turn_of(&who).await.unwrap();
        let mut waiting: Vec<_> = (1..MAX_WAITING_STATES)
            .map(|_| Box::pin(budgets.turn_of(&who)))
            .collect();
        for turn in &mut waiting {
            assert!(poll_immediate(turn).await.is_none());
        }
        let refused = budgets.turn_of(&who).await.unwrap_err();
        assert_eq!(refused, MatrixError::limit_exceeded(1_000));
        let other = owned_server_name!("b.example");
        assert!(budgets.turn_of(&other).await.is_ok());
        drop(turn);
        assert!(waiting.swap_remove(0).await.is_ok());
    }
}
