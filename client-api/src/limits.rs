//! Rate limits of the client API: what counts as what, for whom.

use std::{hash::Hash, net::IpAddr};

use rhizome_edge::{
    MatrixError, Place, Places,
    limits::{Buckets, block_of},
};

use rhizome_storage::UserNo;
use ruma::UserId;

use crate::config::{Network, Rate, RateLimits, UserRates};

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
    /// Invites somebody with a new account.
    NewcomerInvite,
    /// Makes a room with a new account.
    NewcomerRoom,
    /// Sends messages to devices: one for each two KiB of each.
    ToDevice,
    /// Writes to a server that is in no room of ours and nobody has written to yet.
    NewServer,
    /// Puts keys into a backup: as often as [`Kind::Other`], with large bodies.
    Backup,
    /// Uploads a file, or begins to.
    Upload,
    /// Downloads one.
    Download,
    /// Has one fetched from another server.
    Fetch,
    /// Has a code sent somewhere.
    Validation,
    /// Anything else that the specification calls rate-limited.
    Other,
}

/// One token bucket per kind of request and user or address.
pub struct Limits {
    rates: RateLimits,
    buckets: Buckets,
    downloads: Places<Downloader>,
}

/// So many files somebody may have under way to them at a time.
const DOWNLOADS: usize = 64;

/// Who downloads: a user, or somebody who is known by their address only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Downloader {
    /// A user.
    User(UserNo),
    /// A whole subscriber; `None` within one process.
    Block(Option<IpAddr>),
}

impl Limits {
    /// Full buckets with these rates.
    pub fn new(rates: &RateLimits) -> Self {
        Self {
            rates: rates.clone(),
            buckets: Buckets::default(),
            downloads: Places::default(),
        }
    }

    /// Takes one token from the bucket of `kind` and `who` at `now_ms` (monotonic milliseconds), whoever that is.
    /// When it is empty: the milliseconds after which to try again.
    pub fn take(&self, kind: Kind, who: impl Hash, now_ms: u64) -> Result<(), u64> {
        let Some(rate) = self.rate(kind) else {
            return Ok(());
        };
        self.buckets.take(rate, (kind, who), 1, now_ms)
    }

    /// [`Limits::take`] for what a user does, who may have a rate of their own, or none.
    pub fn take_user(&self, kind: Kind, user: &UserId, now_ms: u64) -> Result<(), u64> {
        let Some(rate) = self.rate_of(kind, user) else {
            return Ok(());
        };
        self.buckets.take(rate, (kind, user), 1, now_ms)
    }

    /// [`Limits::take`] for who is known by their address only: a whole subscriber, who has many.
    pub fn take_from(&self, kind: Kind, peer: Option<IpAddr>, now_ms: u64) -> Result<(), u64> {
        let is_in = |networks: &[Network], peer| networks.iter().any(|network| network.has(peer));
        let (exempt, proxies) = (&self.rates.exempt_networks, &self.rates.proxies);
        if peer.is_some_and(|peer| is_in(exempt, peer) && !is_in(proxies, peer)) {
            return Ok(());
        }
        self.take(kind, peer.map(block_of), now_ms)
    }

    /// [`Limits::take_user`] for `count` things of a kind that one request does.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED`; 400 `M_INVALID_PARAM` for more than can ever be done at once.
    pub fn take_many(
        &self,
        kind: Kind,
        user: &UserId,
        count: usize,
        now_ms: u64,
    ) -> Result<(), MatrixError> {
        let Some(rate) = self.rate_of(kind, user).filter(|_| count > 0) else {
            return Ok(());
        };
        let most = rate.burst.max(1);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if count > most {
            return Err(MatrixError::invalid_param(format!(
                "{count} at once are too many: at most {most}"
            )));
        }
        self.buckets
            .take(rate, (kind, user), count, now_ms)
            .map_err(MatrixError::limit_exceeded)
    }

    /// Gives back what [`Limits::take_many`] took for a request that is refused for something else.
    pub fn give_back(&self, kind: Kind, user: &UserId, count: usize, now_ms: u64) {
        if let Some(rate) = self.rate_of(kind, user).filter(|_| count > 0) {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.buckets.give_back(rate, (kind, user), count, now_ms);
        }
    }

    /// A place for a download that is under way. Each holds a file open: who has as many as they may waits until one of
    /// them ends.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED`
    pub fn download(&self, who: Downloader) -> Result<Place<Downloader>, MatrixError> {
        let who = match who {
            Downloader::Block(peer) => Downloader::Block(peer.map(block_of)),
            user @ Downloader::User(_) => user,
        };
        let place = self.downloads.take(who, DOWNLOADS);
        place.ok_or_else(|| MatrixError::limit_exceeded(1_000))
    }

    /// What of a kind a user may do. Secrets are tried by whoever it is: there nobody is another's better.
    fn rate_of(&self, kind: Kind, user: &UserId) -> Option<Rate> {
        let usual = self.rate(kind)?;
        if matches!(kind, Kind::Login | Kind::Registration) {
            return Some(usual);
        }
        if self.rates.exempt_users.contains(user) {
            return None;
        }
        let own = self.rates.overrides.get(user);
        Some(own.and_then(|own| of_kind(own, kind)).unwrap_or(usual))
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
            Kind::NewcomerInvite => self.rates.new_account_invite,
            Kind::NewcomerRoom => self.rates.new_account_room,
            Kind::ToDevice => self.rates.to_device,
            Kind::NewServer => self.rates.new_server,
            Kind::Upload => self.rates.upload,
            Kind::Download => self.rates.download,
            Kind::Validation => self.rates.validation,
            Kind::Fetch => self.rates.fetch,
            Kind::Backup | Kind::Other => self.rates.other,
        })
    }
}

/// A user's own rate for a kind.
fn of_kind(own: &UserRates, kind: Kind) -> Option<Rate> {
    match kind {
        Kind::Free
        | Kind::Registration
        | Kind::Login
        | Kind::Validation
        | Kind::NewcomerInvite
        | Kind::NewcomerRoom => None,
        Kind::Message => own.message,
        Kind::Join => own.join,
        Kind::Invite => own.invite,
        Kind::ToDevice => own.to_device,
        Kind::NewServer => own.new_server,
        Kind::Upload => own.upload,
        Kind::Download => own.download,
        Kind::Fetch => own.fetch,
        Kind::Backup | Kind::Other => own.other,
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    fn limits(burst: u32, enabled: bool) -> Limits {
        let rate = Rate {
            per_second: 0.001,
            burst,
        };
        Limits::new(&RateLimits {
            enabled,
            login: rate,
            invite: rate,
            ..RateLimits::default()
        })
    }

    #[test]
    fn switched_off_nothing_is_counted() {
        let limits = limits(1, false);
        for _ in 0..1000 {
            assert_eq!(limits.take(Kind::Login, "a", 0), Ok(()));
        }
        assert_eq!(
            limits.take_many(Kind::Invite, user_id!("@a:here"), 1000, 0),
            Ok(())
        );
        assert!(limits.buckets.is_empty());
    }

    #[test]
    fn a_subscriber_has_one_bucket_for_all_addresses() {
        let limits = limits(2, true);
        let take = |address: &str| limits.take_from(Kind::Login, address.parse().ok(), 0);
        assert_eq!(take("2001:db8::1"), Ok(()));
        assert_eq!(take("2001:db8::2"), Ok(()));
        assert!(take("2001:db8::3").is_err());
        assert_eq!(take("2001:db8:0:1::3"), Ok(()));
    }

    #[test]
    fn what_one_request_does_many_times_counts_as_often() {
        let limits = limits(5, true);
        let ada = user_id!("@a:here");
        let take = |count| limits.take_many(Kind::Invite, ada, count, 0);
        assert_eq!(take(0), Ok(()));
        assert_eq!(take(3), Ok(()));
        assert_eq!(take(3).unwrap_err().errcode, "M_LIMIT_EXCEEDED");
        assert_eq!(take(6).unwrap_err().errcode, "M_INVALID_PARAM");
        assert_eq!(limits.take_user(Kind::Invite, ada, 0), Ok(()));
        limits.give_back(Kind::Invite, ada, 3, 0);
        assert_eq!(take(4), Ok(()));
        // Never more than a full one.
        limits.give_back(Kind::Invite, ada, 9, 0);
        assert_eq!(take(5), Ok(()));
        assert!(take(1).is_err());
    }

    #[test]
    fn some_may_do_more() {
        let (bot, busy, ada) = (
            user_id!("@bot:here"),
            user_id!("@busy:here"),
            user_id!("@ada:here"),
        );
        let rate = |burst| Rate {
            per_second: 0.001,
            burst,
        };
        let network = |address: &str, bits| Network {
            address: address.parse().unwrap(),
            bits,
        };
        let limits = Limits::new(&RateLimits {
            enabled: true,
            login: rate(1),
            message: rate(1),
            invite: rate(1),
            exempt_users: [bot.to_owned()].into(),
            exempt_networks: vec![
                network("192.0.2.0", 24),
                network("::ffff:198.51.100.0", 120),
            ],
            proxies: vec![network("192.0.2.1", 32)],
            overrides: [(
                busy.to_owned(),
                UserRates {
                    message: Some(rate(3)),
                    ..UserRates::default()
                },
            )]
            .into(),
            ..RateLimits::default()
        });
        let times = |kind, user: &UserId| {
            let mut done = 0;
            while done < 10 && limits.take_user(kind, user, 0).is_ok() {
                done += 1;
            }
            done
        };
        assert_eq!(times(Kind::Message, ada), 1);
        assert_eq!(times(Kind::Message, busy), 3);
        assert_eq!(times(Kind::Invite, busy), 1);
        assert_eq!(times(Kind::Message, bot), 10);
        assert!(limits.take_many(Kind::Invite, bot, 1_000, 0).is_ok());
        // Passwords are guessed by whoever it is.
        assert_eq!(times(Kind::Login, bot), 1);
        let from = |address: &str| {
            let address = address.parse().ok();
            let take = || limits.take_from(Kind::Login, address, 0).is_ok();
            (take(), take())
        };
        assert_eq!(from("192.0.2.77"), (true, true));
        assert_eq!(from("::ffff:192.0.2.77"), (true, true));
        assert_eq!(from("198.51.100.9"), (true, true));
        // A proxy of ours stands for whoever comes through it.
        assert_eq!(from("192.0.2.1"), (true, false));
        assert_eq!(from("192.0.3.1"), (true, false));
        assert_eq!(from("2001:db8::1"), (true, false));
    }
}
