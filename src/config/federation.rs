//! `[federation]`: other servers.

use std::path::PathBuf;

use ipnet::IpNet;
use rhizome_federation::MAX_OLD_KEYS;
use rhizome_federation::keys::public_key;
use rhizome_federation::servers;
use rhizome_federation::xmatrix::is_key_id;
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
    /// Patterns of the names of servers that are spoken with, if there are any: no others are.
    pub allowed_servers: Vec<String>,
    /// Patterns of the names of servers that aren't.
    pub denied_servers: Vec<String>,
    /// The same for what they ask and send alone.
    pub inbound: ServerLists,
    /// The same for what we ask and send alone.
    pub outbound: ServerLists,
    /// PEM files with certificate authorities trusted beside the system's.
    pub extra_ca_certificates: Vec<PathBuf>,
    /// Address ranges that we never connect to (private ones, unless set).
    pub denied_ranges: Vec<IpNet>,
    /// Exceptions from `denied_ranges`.
    pub allowed_ranges: Vec<IpNet>,
    /// Notary servers to ask for the keys of servers that don't answer.
    #[serde(deserialize_with = "de_server_names")]
    pub trusted_key_servers: Vec<OwnedServerName>,
    /// Keys that this server signed with in the past, beside those that `rhizome keys rotate` has replaced.
    pub old_verify_keys: Vec<OldVerifyKey>,
    /// Time for one request, discovery and connecting included.
    pub request_timeout: Span,
    /// The first pause after a server failed to answer; doubled with each failure.
    pub retry_min: Span,
    /// The longest pause before an unreachable server is tried again.
    pub retry_max: Span,
    /// Whether other servers are told what people here call their devices.
    pub tell_device_names: bool,
    /// Whether rooms of other servers are joined before all of their members are known.
    pub partial_joins: bool,
}

/// Which servers are spoken with in one direction, within what holds for both.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLists {
    /// Patterns of names, if there are any: no others are.
    pub allowed_servers: Vec<String>,
    /// Patterns of names of those that aren't.
    pub denied_servers: Vec<String>,
}

/// A key that this server signed with in the past.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OldVerifyKey {
    /// `ed25519:…`
    pub key_id: String,
    /// The public key in base64.
    pub key: String,
    /// What it has signed counts until then, milliseconds since 1970.
    pub expired_ts: i64,
}

/// Before this, in ms, there was no Matrix: what is less was meant as seconds.
const FIRST_TIME: i64 = 1_000_000_000_000;
/// The last millisecond of the year 9999. What is beyond some 280,000 years JSON of Matrix can't say at all, and then we could
/// publish no keys.
pub const LAST_TIME: i64 = 253_402_300_799_999;

impl OldVerifyKey {
    /// What is wrong with it, of which key, and what to do.
    fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        if !is_key_id(&self.key_id) {
            return Some((
                "key_id",
                format!("`{}` is no key id", self.key_id),
                "write it with its algorithm, such as \"ed25519:a_xxxx\"",
            ));
        }
        if public_key(&self.key).is_none() {
            return Some((
                "key",
                "it is no public ed25519 key".to_owned(),
                "write the 43 characters of base64 that others know it by; the key's file has the secret half, which doesn't belong here",
            ));
        }
        if self.expired_ts > LAST_TIME {
            return Some((
                "expired_ts",
                "that is after the year 9999".to_owned(),
                "write milliseconds since 1970, which have 13 digits: `date +%s%3N` gives those of now",
            ));
        }
        if self.expired_ts < FIRST_TIME {
            return Some((
                "expired_ts",
                "that was before there was Matrix".to_owned(),
                "write milliseconds since 1970: seconds, such as those of `date +%s`, with 000 behind them",
            ));
        }
        None
    }
}

impl Default for Federation {
    fn default() -> Self {
        Self {
            enabled: true,
            allowed_servers: Vec::new(),
            denied_servers: Vec::new(),
            inbound: ServerLists::default(),
            outbound: ServerLists::default(),
            extra_ca_certificates: Vec::new(),
            denied_ranges: rhizome_federation::non_public_ranges(),
            allowed_ranges: Vec::new(),
            trusted_key_servers: vec![server_name!("matrix.org").to_owned()],
            old_verify_keys: Vec::new(),
            request_timeout: Span::secs(30),
            retry_min: Span::secs(2),
            retry_max: Span::secs(3600),
            tell_device_names: false,
            partial_joins: false,
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
        self.check_old_keys(problems);
        self.check_servers(problems);
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

    fn check_servers(&self, problems: &mut Problems) {
        let Self {
            inbound, outbound, ..
        } = self;
        for (list, patterns) in [
            ("allowed_servers", &self.allowed_servers),
            ("denied_servers", &self.denied_servers),
            ("inbound.allowed_servers", &inbound.allowed_servers),
            ("inbound.denied_servers", &inbound.denied_servers),
            ("outbound.allowed_servers", &outbound.allowed_servers),
            ("outbound.denied_servers", &outbound.denied_servers),
        ] {
            let list = format!("federation.{list}");
            for (index, pattern) in patterns.iter().enumerate() {
                if let Some((what, remedy)) = servers::fault(pattern) {
                    let what = format!("`{pattern}`: {what}");
                    problems.add(format!("{list}.{index}"), what, remedy);
                }
            }
            let wild = patterns.iter().filter(|one| servers::is_wild(one)).count();
            if patterns.len() > servers::MAX_PATTERNS || wild > servers::MAX_WILD {
                problems.add(
                    list,
                    format!(
                        "there are more than {} names, or {} with * or ?",
                        servers::MAX_PATTERNS,
                        servers::MAX_WILD
                    ),
                    "write fewer, wider patterns: \"*.example.org\" for all of a domain",
                );
            }
        }
    }

    fn check_old_keys(&self, problems: &mut Problems) {
        let keys = &self.old_verify_keys;
        for (index, key) in keys.iter().enumerate() {
            let path = format!("federation.old_verify_keys.{index}");
            if let Some((field, what, remedy)) = key.fault() {
                problems.add(format!("{path}.{field}"), what, remedy);
            } else if keys[..index].iter().any(|other| other.key_id == key.key_id) {
                problems.add(
                    format!("{path}.key_id"),
                    format!("`{}` is there twice", key.key_id),
                    "keep the one with the later expired_ts",
                );
            }
        }
        if keys.len() > MAX_OLD_KEYS {
            problems.add(
                "federation.old_verify_keys",
                format!("with more than {MAX_OLD_KEYS}, other servers would take none of our keys"),
                "leave out the oldest",
            );
        }
    }
}
