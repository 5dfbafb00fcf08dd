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
    /// Time for one request, discovery and connecting included.
    pub request_timeout: Span,
    /// The first pause after a server failed to answer; doubled with each failure.
    pub retry_min: Span,
    /// The longest pause before an unreachable server is tried again.
    pub retry_max: Span,
    /// Whether other servers are told what people here call their devices.
    pub tell_device_names: bool,
}

impl Default for Federation {
    fn default() -> Self {
        Self {
            enabled: true,
            extra_ca_certificates: Vec::new(),
            denied_ranges: rhizome_federation::non_public_ranges(),
            allowed_ranges: Vec::new(),
            trusted_key_servers: vec![server_name!("matrix.org").to_owned()],
            request_timeout: Span::secs(30),
            retry_min: Span::secs(2),
            retry_max: Span::secs(3600),
            tell_device_names: false,
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
            ("request_timeout", self.request_timeout),
            ("retry_min", self.retry_min),
            ("retry_max", self.retry_max),
        ] {
            if span.0.is_zero() {
                problems.add(
                    format!("federation.{key}"),
                    "this span of time is empty",
                    "remove the line, or set federation.enabled = false to talk to no other server",
                );
            }
        }
    }
}
