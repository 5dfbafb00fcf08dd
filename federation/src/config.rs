//! What can be set about federation. The root package reads files and environment and fills this.

use std::time::Duration;

use ::ruma::OwnedServerName;
use ipnet::IpNet;
use thiserror::Error;

use rhizome_appservice::Services;
use rhizome_edge::limits::Rate;

use crate::servers::ServerRules;

/// Settings of federation.
#[derive(Debug, Clone)]
pub struct FederationConfig {
    /// Further CA certificates to trust, each PEM text (one or more certificates), besides the
    /// platform's.
    pub extra_ca_pem: Vec<String>,
    /// Whether this server talks to others at all: if not, nothing is kept for them either.
    pub enabled: bool,
    /// Which of them it talks to.
    pub servers: ServerRules,
    /// The application services, which are asked about users and aliases of theirs; `None`: there are none.
    pub services: Option<Services>,
    /// How often each server may invite users of ours; `None`: as often as it likes.
    pub invites: Option<Rate>,
    /// Ranges that may be connected to although [`FederationConfig::denied_ranges`] contains them.
    pub allowed_ranges: Vec<IpNet>,
    /// Ranges that are never connected to. Default: everything that isn't the public internet.
    pub denied_ranges: Vec<IpNet>,
    /// Notaries to ask for keys of servers that can't be reached themselves.
    pub trusted_key_servers: Vec<OwnedServerName>,
    /// Keys that this server signed with in the past, at most [`MAX_OLD_KEYS`]. What they have signed until then is
    /// verified by them, here and elsewhere.
    pub old_verify_keys: Vec<OldVerifyKey>,
    /// Time limit of one outbound request, discovery and connecting included.
    pub request_timeout: Duration,
    /// How long joining a room through other servers may take, however many are tried. What has been taken of the
    /// room by then is finished.
    pub join_timeout: Duration,
    /// Whether rooms are joined before their members are known, where the other server can leave those out.
    pub partial_joins: bool,
    /// The first wait after a destination failed; doubled with each failure.
    pub retry_min: Duration,
    /// The longest wait between two attempts.
    pub retry_max: Duration,
    /// Whether other servers are told what users here call their devices.
    pub tell_device_names: bool,
    /// How much other servers may ask of us.
    pub rate_limits: RateLimits,
    /// Largest body of a request in bytes, but for transactions, whose size follows from their parts.
    pub max_body_bytes: usize,
    /// The software name that `/version` tells.
    pub software_name: String,
    /// The software version that `/version` tells.
    pub software_version: String,
}

/// How much other servers may ask of us.
#[derive(Debug, Clone)]
pub struct RateLimits {
    /// `false` switches all of them off.
    pub enabled: bool,
    /// Transactions of a server.
    pub transaction: Rate,
    /// What is much at once, for a server: states, auth chains, joins, room lists.
    pub state: Rate,
    /// Files and pictures of them, for a server.
    pub media: Rate,
    /// Everything else that a server asks for.
    pub other: Rate,
    /// Requests that needn't be signed, per address.
    pub unsigned: Rate,
    /// Servers whose keys are asked for or have to be fetched, per address.
    pub keys: Rate,
    /// Milliseconds of work that are done for a server.
    pub work: Rate,
}

impl Default for RateLimits {
    fn default() -> Self {
        let rate = |per_second, burst| Rate { per_second, burst };
        Self {
            enabled: true,
            transaction: rate(100.0, 1_000),
            state: rate(5.0, 200),
            media: rate(50.0, 1_000),
            other: rate(50.0, 1_000),
            unsigned: rate(20.0, 400),
            keys: rate(5.0, 500),
            work: rate(2_000.0, 300_000),
        }
    }
}

/// With more old keys than this, other servers would take none of our keys.
pub const MAX_OLD_KEYS: usize = 100;

/// A retired signing key of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldVerifyKey {
    /// `ed25519:…`
    pub key_id: String,
    /// The public key in base64, padded or not.
    pub public: String,
    /// What it has signed counts until then, milliseconds since 1970.
    pub expired_ts: i64,
}

/// The settings can't be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A CA certificate couldn't be read.
    #[error("an extra CA certificate for federation isn't valid PEM: {0}")]
    Certificate(String),
    /// A retired signing key isn't one.
    #[error("federation.old_verify_keys: {0}")]
    OldKey(String),
    /// The HTTP client couldn't be made.
    #[error("the HTTP client for federation couldn't be made: {0}")]
    Client(String),
}

impl Default for FederationConfig {
    fn default() -> Self {
        Self {
            extra_ca_pem: Vec::new(),
            enabled: true,
            servers: ServerRules::default(),
            services: None,
            invites: Some(Rate {
                per_second: 1.0,
                burst: 100,
            }),
            allowed_ranges: Vec::new(),
            denied_ranges: non_public_ranges(),
            trusted_key_servers: Vec::new(),
            old_verify_keys: Vec::new(),
            request_timeout: Duration::from_secs(30),
            join_timeout: Duration::from_mins(4),
            partial_joins: false,
            retry_min: Duration::from_secs(2),
            retry_max: Duration::from_hours(1),
            tell_device_names: false,
            rate_limits: RateLimits::default(),
            max_body_bytes: 2 << 20,
            software_name: "Rhizome".to_owned(),
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Every range that isn't the public internet: private, loopback, link-local, shared, multicast,
/// documentation, benchmarking, reserved, and IPv6 ranges that embed IPv4 addresses.
pub fn non_public_ranges() -> Vec<IpNet> {
    const RANGES: [&str; 29] = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "::1/128",
        "::ffff:0:0:0/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    ];
    RANGES
        .iter()
        .filter_map(|range| range.parse().ok())
        .collect()
}

impl FederationConfig {
    /// Whether a connection to this address may be opened. Addresses that carry an IPv4 address
    /// (mapped, compatible, NAT64) are judged by it.
    pub fn may_connect_to(&self, address: std::net::IpAddr) -> bool {
        let address = embedded_v4(address);
        self.allowed_ranges
            .iter()
            .any(|range| range.contains(&address))
            || !self
                .denied_ranges
                .iter()
                .any(|range| range.contains(&address))
    }
}

fn embedded_v4(address: std::net::IpAddr) -> std::net::IpAddr {
    use std::net::{IpAddr, Ipv4Addr};
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let s = v6.segments();
    let nat64 = s[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let compatible = s[..6] == [0; 6] && (s[6] != 0 || s[7] > 1);
    if v6.to_ipv4_mapped().is_some() || nat64 || compatible {
        let [.., high, low] = s;
        return IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ranges_parse() {
        assert_eq!(non_public_ranges().len(), 29);
    }

    #[test]
    fn private_addresses_are_denied_in_every_disguise() {
        let config = FederationConfig::default();
        for denied in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "172.31.255.255",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "fec0::1",
            "5f00::1",
            "::ffff:0:7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "::127.0.0.1",
            "2002:7f00:1::",
            "255.255.255.255",
            "224.0.0.1",
        ] {
            assert!(!config.may_connect_to(denied.parse().unwrap()), "{denied}");
        }
        for allowed in ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(config.may_connect_to(allowed.parse().unwrap()), "{allowed}");
        }
    }

    #[test]
    fn allowed_ranges_open_what_is_denied() {
        let config = FederationConfig {
            allowed_ranges: vec!["127.0.0.0/8".parse().unwrap()],
            ..FederationConfig::default()
        };
        assert!(config.may_connect_to("127.0.0.1".parse().unwrap()));
        assert!(config.may_connect_to("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!config.may_connect_to("10.0.0.1".parse().unwrap()));
    }
}
