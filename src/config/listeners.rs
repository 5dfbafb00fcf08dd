//! `[[listeners]]` and `[http]`: where we listen, what each listener serves, and what a peer may cost.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::Problems;
use super::units::{Size, Span};

/// One address that we listen on.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// IP address and port. Port 0 lets the system choose (for tests).
    #[serde(deserialize_with = "de_address")]
    pub address: SocketAddr,
    /// What it serves.
    #[serde(default = "Api::all")]
    pub apis: Vec<Api>,
    /// Certificate and key; without them the listener speaks plain HTTP.
    pub tls: Option<Tls>,
}

/// A group of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// The client-server API and the WebSocket stream.
    Client,
    /// The server-server API and the published keys.
    Federation,
    /// Administration: `/_synapse/admin/v1/register`.
    Admin,
    /// `/.well-known/matrix/*`.
    WellKnown,
}

impl Api {
    /// Everything.
    pub fn all() -> Vec<Self> {
        vec![Self::Client, Self::Federation, Self::Admin, Self::WellKnown]
    }

    /// As written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Federation => "federation",
            Self::Admin => "admin",
            Self::WellKnown => "well_known",
        }
    }
}

/// A listener's certificate and key, both PEM. Read again on SIGHUP.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate, followed by the intermediate ones.
    pub certificate: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// What one peer may cost, on every listener.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Connections that one listener holds at a time; more wait in the system's backlog.
    pub max_connections: usize,
    /// Of these, from one address (an IPv6 /64); trusted proxies are not counted.
    pub max_connections_per_address: usize,
    /// Time for the TLS handshake, and for the headers of each request (so also how long a connection may idle).
    pub header_timeout: Span,
    /// Time for the whole body of a request, and for a peer to take what it is sent.
    pub body_timeout: Span,
    /// The largest request body.
    pub max_request_size: Size,
    /// How long a stop waits for requests that are under way.
    pub drain_timeout: Span,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_address: 500,
            header_timeout: Span::secs(60),
            body_timeout: Span::secs(60),
            max_request_size: Size::mib(64),
            drain_timeout: Span::secs(10),
            trusted_proxies: vec![
                IpNet::new_assert([127, 0, 0, 0].into(), 8),
                IpNet::new_assert(std::net::Ipv6Addr::LOCALHOST.into(), 128),
            ],
        }
    }
}

/// The listeners when none is configured: everything, on this machine only.
pub(super) fn default_listeners() -> Vec<Listener> {
    vec![Listener {
        address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8008),
        apis: Api::all(),
        tls: None,
    }]
}

pub(super) fn de_address<'de, D: Deserializer<'de>>(d: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(d)?;
    let text = text
        .strip_prefix("localhost:")
        .map_or(text.clone(), |port| format!("127.0.0.1:{port}"));
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "`{text}` is not an address to listen on; write an IP address and a port, such as \"127.0.0.1:8008\", \"0.0.0.0:8448\" or \"[::]:8448\""
        ))
    })
}

pub(super) fn check(listeners: &[Listener], http: &Http, problems: &mut Problems) {
    if listeners.is_empty() {
        problems.add(
            "listeners",
            "there is no listener, so nobody could reach the server",
            "add a [[listeners]] section, or remove the empty list to get 127.0.0.1:8008",
        );
    }
    for (index, listener) in listeners.iter().enumerate() {
        let earlier = &listeners[..index];
        if listener.address.port() != 0 && earlier.iter().any(|l| l.address == listener.address) {
            problems.add(
                format!("listeners.{index}.address"),
                format!("two listeners share the address {}", listener.address),
                "give each its own address, or merge their `apis`",
            );
        }
        if listener.apis.is_empty() {
            problems.add(
                format!("listeners.{index}.apis"),
                "this listener serves nothing",
                "name at least one of \"client\", \"federation\", \"admin\", \"well_known\", or remove the listener",
            );
        }
        if let Some(tls) = &listener.tls
            && let Err((key, what, remedy)) = crate::tls::check(&tls.certificate, &tls.key)
        {
            problems.add(format!("listeners.{index}.tls.{key}"), what, remedy);
        }
    }
    for (key, number, default) in [
        ("max_connections", http.max_connections, 10_000),
        (
            "max_connections_per_address",
            http.max_connections_per_address,
            500,
        ),
    ] {
        if number == 0 {
            problems.add(
                format!("http.{key}"),
                "no connection would be accepted",
                format!("set it to {default}, or remove the line"),
            );
        }
    }
    if http.max_request_size.0 < 128 * 1024 {
        problems.add(
            "http.max_request_size",
            "a request with one event of the largest size (64 KiB) would not fit",
            "set it to \"128 KiB\" or more; \"12 MiB\" holds the largest federation transaction",
        );
    }
    for (key, span) in [
        ("header_timeout", http.header_timeout),
        ("body_timeout", http.body_timeout),
    ] {
        if span.0.is_zero() {
            problems.add(
                format!("http.{key}"),
                "no request could arrive in no time",
                "set it to \"60s\"",
            );
        }
    }
}
