//! Rate limits of the client API: what counts as what, for whom.

use std::{hash::Hash, net::IpAddr};

use rhizome_edge::{
    Caller, MatrixError, Place, Places,
    limits::{BLOCKS_AT_ONCE, Buckets, block_of, site_of},
};

use rhizome_storage::{UserLimits, UserNo};
use ruma::UserId;

use crate::config::{Network, Rate, RateLimits};

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

/// Whose bucket it is: a user's, for whom an application service may act.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// Who.
    pub user: &'a UserId,
    /// If a service acts: whether limits count for what it does.
    pub service: Option<bool>,
}

impl<'a> From<&'a Caller> for By<'a> {
    fn from(who: &'a Caller) -> Self {
        Self {
            user: &who.user_id,
            service: who.service.as_ref().map(|service| service.is_limited),
        }
    }
}

impl<'a> From<&'a UserId> for By<'a> {
    fn from(user: &'a UserId) -> Self {
        Self {
            user,
            service: None,
        }
    }
}

/// One token bucket per kind of request and user or address.
pub struct Limits {
    rates: RateLimits,
    /// What the operator has set for users since.
    own: UserLimits,
    buckets: Buckets,
    vain: Buckets,
    downloads: Places<Downloader>,
}

/// How soon it is forgotten that passwords were hashed for somebody in vain.
const VAIN: Rate = Rate {
    per_second: 1.0 / 60.0,
    burst: 60,
};

/// So many files somebody may have under way to them at a time.
const DOWNLOADS: usize = 64;

/// Who downloads: a user, or somebody who is known by their address only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Downloader {
    /// A user.
    User(UserNo),
    /// A whole subscriber; `None` within one process.
    Block(Option<IpAddr>),
    /// All blocks of an IPv6 /48.
    Site(IpAddr),
}

/// A download that is under way.
pub struct Downloading {
    _places: [Option<Place<Downloader>>; 2],
}

impl Limits {
    /// Full buckets with these rates, and those that users have.
    pub fn new(rates: &RateLimits, own: UserLimits) -> Self {
        Self {
            rates: rates.clone(),
            own,
            buckets: Buckets::default(),
            vain: Buckets::default(),
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
    pub fn take_user<'a>(&self, kind: Kind, by: impl Into<By<'a>>, now_ms: u64) -> Result<(), u64> {
        let by = by.into();
        let Some(rate) = self.rate_of(kind, by) else {
            return Ok(());
        };
        self.buckets.take(rate, (kind, by.user), 1, now_ms)
    }

    /// [`Limits::take`] for who is known by their address only: a whole subscriber, who has many, perhaps also many blocks.
    pub fn take_from(&self, kind: Kind, peer: Option<IpAddr>, now_ms: u64) -> Result<(), u64> {
        let is_in = |networks: &[Network], peer| networks.iter().any(|network| network.has(peer));
        let (exempt, proxies) = (&self.rates.exempt_networks, &self.rates.proxies);
        if peer.is_some_and(|peer| is_in(exempt, peer) && !is_in(proxies, peer)) {
            return Ok(());
        }
        let (Some(peer), Some(rate)) = (peer, self.rate(kind)) else {
            return self.take(kind, None::<IpAddr>, now_ms);
        };
        self.buckets.take_from(rate, (kind, peer), 1, now_ms)
    }

    /// Counts that a password is hashed for somebody in vain, which what is tried is until it is found to be right
    /// ([`Limits::not_in_vain`]), or for a new account. How often that was of late before, and whether it is counted: more
    /// than all isn't.
    pub fn in_vain(&self, peer: Option<IpAddr>, now_ms: u64) -> (u32, bool) {
        match peer.filter(|_| self.rates.enabled) {
            Some(peer) => self.vain.count_from(VAIN, ((), peer), now_ms),
            None => (0, false),
        }
    }

    /// What [`Limits::in_vain`] has counted wasn't.
    pub fn not_in_vain(&self, peer: Option<IpAddr>, now_ms: u64) {
        if let Some(peer) = peer {
            self.vain.give_back_from(VAIN, ((), peer), now_ms);
        }
    }

    /// How often that was of late: who has been at it less goes first.
    pub fn vain_of(&self, peer: Option<IpAddr>, now_ms: u64) -> u32 {
        peer.map_or(0, |peer| self.vain.missing_from(VAIN, ((), peer), now_ms))
    }

    /// [`Limits::take_user`] for `count` things of a kind that one request does.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED`; 400 `M_INVALID_PARAM` for more than can ever be done at once.
    pub fn take_many<'a>(
        &self,
        kind: Kind,
        by: impl Into<By<'a>>,
        count: usize,
        now_ms: u64,
    ) -> Result<(), MatrixError> {
        let by = by.into();
        let Some(rate) = self.rate_of(kind, by).filter(|_| count > 0) else {
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
            .take(rate, (kind, by.user), count, now_ms)
            .map_err(MatrixError::limit_exceeded)
    }

    /// Gives back what [`Limits::take_many`] took for a request that is refused for something else.
    pub fn give_back<'a>(&self, kind: Kind, by: impl Into<By<'a>>, count: usize, now_ms: u64) {
        let by = by.into();
        if let Some(rate) = self.rate_of(kind, by).filter(|_| count > 0) {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.buckets.give_back(rate, (kind, by.user), count, now_ms);
        }
    }

    /// A place for a download that is under way. Each holds a file open: who has as many as they may waits until one of
    /// them ends.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED`
    pub fn download(&self, who: Downloader) -> Result<Downloading, MatrixError> {
        let (who, site) = match who {
            Downloader::Block(peer) => (
                Downloader::Block(peer.map(block_of)),
                peer.and_then(site_of).map(Downloader::Site),
            ),
            other => (other, None),
        };
        let take = |who, most| {
            let place = self.downloads.take(who, most);
            place.ok_or_else(|| MatrixError::limit_exceeded(1_000))
        };
        let of_site = DOWNLOADS * usize::from(BLOCKS_AT_ONCE);
        Ok(Downloading {
            _places: [
                Some(take(who, DOWNLOADS)?),
                site.map(|site| take(site, of_site)).transpose()?,
            ],
        })
    }

    /// What of a kind a user may do: what the operator has set for them, what the configuration says of them, what all may.
    /// Secrets are tried by whoever it is: there nobody is another's better.
    fn rate_of(&self, kind: Kind, By { user, service }: By<'_>) -> Option<Rate> {
        let usual = self.rate(kind)?;
        if service == Some(false) {
            return None;
        }
        if matches!(kind, Kind::Login | Kind::Registration) {
            return Some(usual);
        }
        let Some(name) = name_of(kind) else {
            return (!self.rates.exempt_users.contains(user)).then_some(usual);
        };
        if let Some(own) = self.own.of(user, name) {
            return Some(Rate {
                per_second: own.per_second(),
                burst: own.burst(),
            });
        }
        if self.rates.exempt_users.contains(user) {
            return None;
        }
        let own = self.rates.overrides.get(user);
        Some(own.and_then(|own| own.named(name)).unwrap_or(usual))
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

/// What a kind is called where a user can have a rate of their own.
fn name_of(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Free
        | Kind::Registration
        | Kind::Login
        | Kind::Validation
        | Kind::NewcomerInvite
        | Kind::NewcomerRoom => None,
        Kind::Message => Some("message"),
        Kind::Join => Some("join"),
        Kind::Invite => Some("invite"),
        Kind::ToDevice => Some("to_device"),
        Kind::NewServer => Some("new_server"),
        Kind::Upload => Some("upload"),
        Kind::Download => Some("download"),
        Kind::Fetch => Some("fetch"),
        Kind::Backup | Kind::Other => Some("other"),
    }
}

#[cfg(test)]
mod tests;
