//! How often users and others may do what costs.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    time::Duration,
};

use ruma::OwnedUserId;

use super::Rate;

/// Rate limits by kind of request.
#[derive(Debug, Clone)]
pub struct RateLimits {
    /// `false` switches all of them off (load tests).
    pub enabled: bool,
    /// Events sent, per user.
    pub message: Rate,
    /// Registrations, per address.
    pub registration: Rate,
    /// Logins and refreshes, per address and per account.
    pub login: Rate,
    /// Joins and created rooms, per user.
    pub join: Rate,
    /// Invites, per user.
    pub invite: Rate,
    /// Messages to devices, per user: one for each two KiB of each.
    pub to_device: Rate,
    /// Servers that are in no room of ours and nobody has written to yet, per user whose messages to devices go there.
    pub new_server: Rate,
    /// Files uploaded, and ids for them, per user.
    pub upload: Rate,
    /// Files and pictures of them downloaded, per user or address.
    pub download: Rate,
    /// Of those, files that aren't here and have to be fetched from other servers, per user or address.
    pub fetch: Rate,
    /// Codes by which addresses are validated, per address that they go to and per address that they are asked from.
    pub validation: Rate,
    /// Everything else that the specification calls rate-limited, per user or address.
    pub other: Rate,
    /// For how long an account is new; zero: none is.
    pub new_account_age: Duration,
    /// Invites, per user whose account is new.
    pub new_account_invite: Rate,
    /// Rooms made, per user whose account is new.
    pub new_account_room: Rate,
    /// Users for whom none of these hold, but for what tries secrets.
    pub exempt_users: HashSet<OwnedUserId>,
    /// Networks whose addresses aren't counted.
    pub exempt_networks: Vec<Network>,
    /// Where our proxies are: who comes from there without saying for whom is exempt by no network.
    pub proxies: Vec<Network>,
    /// Users who have rates of their own.
    pub overrides: HashMap<OwnedUserId, UserRates>,
}

/// Rates of a user's own; what isn't set is as for others.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "as in RateLimits")]
pub struct UserRates {
    pub message: Option<Rate>,
    pub join: Option<Rate>,
    pub invite: Option<Rate>,
    pub to_device: Option<Rate>,
    pub new_server: Option<Rate>,
    pub upload: Option<Rate>,
    pub download: Option<Rate>,
    pub fetch: Option<Rate>,
    pub other: Option<Rate>,
}

impl UserRates {
    /// What they are called.
    pub const NAMES: [&str; 9] = [
        "message",
        "join",
        "invite",
        "to_device",
        "new_server",
        "upload",
        "download",
        "fetch",
        "other",
    ];

    /// The one of this name.
    pub(crate) fn named(&self, name: &str) -> Option<Rate> {
        match name {
            "message" => self.message,
            "join" => self.join,
            "invite" => self.invite,
            "to_device" => self.to_device,
            "new_server" => self.new_server,
            "upload" => self.upload,
            "download" => self.download,
            "fetch" => self.fetch,
            "other" => self.other,
            _ => None,
        }
    }
}

/// The addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// One of them.
    pub address: IpAddr,
    /// In how many bits they are alike.
    pub bits: u8,
}

impl Network {
    /// Whether an address is of the network.
    pub fn has(&self, address: IpAddr) -> bool {
        let mut bits = u32::from(self.bits);
        if self.address.is_ipv6() && self.address.to_canonical().is_ipv4() {
            // It was written as one of IPv6.
            bits = bits.saturating_sub(96);
        }
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing
                    .checked_shr(32_u32.saturating_sub(bits))
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing
                    .checked_shr(128_u32.saturating_sub(bits))
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

impl RateLimits {
    /// No limits: for load tests.
    pub fn off() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        let rate = |per_second, burst| Rate { per_second, burst };
        Self {
            enabled: true,
            message: rate(10.0, 50),
            registration: rate(0.2, 5),
            login: rate(0.5, 10),
            join: rate(1.0, 20),
            invite: rate(1.0, 50),
            to_device: rate(500.0, 50_000),
            new_server: rate(0.02, 100),
            upload: rate(5.0, 100),
            download: rate(100.0, 2_000),
            fetch: rate(10.0, 500),
            validation: rate(0.003, 5),
            other: rate(20.0, 100),
            new_account_age: Duration::ZERO,
            new_account_invite: rate(0.001, 10),
            new_account_room: rate(0.0005, 5),
            exempt_users: HashSet::new(),
            exempt_networks: Vec::new(),
            proxies: Vec::new(),
            overrides: HashMap::new(),
        }
    }
}
