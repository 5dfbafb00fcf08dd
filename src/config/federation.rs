//! `[federation]`: other servers.

use std::path::PathBuf;

use ipnet::IpNet;
use ruma::{OwnedServerName, server_name};
use serde::Deserialize;

use super::Problems;
use super::units::{Span, de_server_names};

/// Other servers: whether we talk to them, whom we trust, where we connect to.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Federation {
    /// Whether we talk to other servers at all.
    pub enabled: bool,
    /// PEM files with certificate authorities trusted beside the system's.
    pub extra_ca_certificates: Vec<PathBuf>,
    /// Address ranges that we never connect to (private ones, unless set).
    pub denied_ranges: Vec<IpNet>,
    /// Exceptions from `denied_ranges`.
    pub allowed_ranges: Vec<IpNet>,
    /// Notary servers to ask for the keys of servers that don't answer.
    #[serde(deserialize_with = "de_server_names")]
    pub trusted_key_servers: Vec<OwnedServerName>,
    /// Time to connect, TLS included.
    pub connect_timeout: Span,
    /// Time for one whole request.
    pub request_timeout: Span,
    /// The longest pause before trying an unreachable server again.
    pub max_backoff: Span,
}

/// What is not the public Internet.
const PRIVATE_RANGES: &[&str] = &[
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
    "::/127",
    "64:ff9b:1::/48",
    "100::/64",
    "2001:db8::/32",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

impl Default for Federation {
    fn default() -> Self {
        Self {
            enabled: true,
            extra_ca_certificates: Vec::new(),
            denied_ranges: PRIVATE_RANGES
                .iter()
                .filter_map(|range| range.parse().ok())
                .collect(),
            allowed_ranges: Vec::new(),
            trusted_key_servers: vec![server_name!("matrix.org").to_owned()],
            connect_timeout: Span::secs(10),
            request_timeout: Span::secs(60),
            max_backoff: Span::secs(3600),
        }
    }
}

impl Federation {
    pub(super) fn check(&self, problems: &mut Problems) {
        for (index, path) in self.extra_ca_certificates.iter().enumerate() {
            if let Err((what, remedy)) = crate::tls::read_certificates(path) {
                problems.add(
                    format!("federation.extra_ca_certificates.{index}"),
                    what,
                    remedy,
                );
            }
        }
        for (key, span) in [
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
        ] {
            if span.0.is_zero() {
                problems.add(
                    format!("federation.{key}"),
                    "no server could answer in no time",
                    "set it to \"30s\", or set federation.enabled = false",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_private_range_parses() {
        assert_eq!(
            Federation::default().denied_ranges.len(),
            PRIVATE_RANGES.len()
        );
    }
}
