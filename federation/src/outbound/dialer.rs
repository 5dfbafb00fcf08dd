//! Opening connections: `reqwest` clients whose resolver knows where to connect to and the egress rules.
//!
//! The rules are checked on the very addresses that the client connects to, after name resolution, so
//! no DNS answer gets around them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use ipnet::IpNet;
use reqwest::{
    Client, ClientBuilder, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use rustls::{
    RootCertStore,
    client::{Resumption, danger::ServerCertVerifier},
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::{
    FederationConfig,
    config::ConfigError,
    outbound::{
        discovery::Target,
        dns::{Dns, Reason},
        places::{self, Place},
    },
};

/// How we call ourselves.
const USER_AGENT: &str = concat!("Rhizome/", env!("CARGO_PKG_VERSION"));

/// How we call ourselves at web addresses: many sites tell a bot what a page is about, and a browser only by script.
const VISITOR: &str = concat!("Rhizome/", env!("CARGO_PKG_VERSION"), " (bot)");

/// How long looking up, connecting and the TLS handshake may take together. Several addresses share
/// it, so that one that never answers leaves time for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection without requests is kept.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// Such connections per destination.
const MAX_IDLE: usize = 4;
/// Addresses of one route that are tried, those of several targets in equal parts.
pub(crate) const MAX_ADDRESSES: usize = 8;
/// How long an HTTP/2 connection with requests under way may be silent, and then has to answer a ping: one that has died
/// without a word would else take all requests with it.
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_TIME: Duration = Duration::from_secs(10);
/// How much a server may send ahead of what is read of it: of one answer, and of all.
const AHEAD: u32 = 1 << 20;
const AHEAD_IN_ALL: u32 = 4 << 20;

/// Which addresses may be connected to.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Not those in these ranges,
    pub denied: Vec<IpNet>,
    /// but for these.
    pub allowed: Vec<IpNet>,
}

/// What all connections to the outside share: name lookups, egress rules, TLS.
pub(crate) struct Dialer {
    dns: Arc<Dns>,
    roots: Arc<RootCertStore>,
    tls: rustls::ClientConfig,
    config: FederationConfig,
}

impl Dialer {
    pub(crate) fn new(config: &FederationConfig) -> Result<Self, ConfigError> {
        let roots = Arc::new(roots(config)?);
        Ok(Self {
            dns: Arc::new(Dns::system()),
            tls: tls_config(roots.clone())?,
            roots,
            config: config.clone(),
        })
    }

    /// One whose names lead where a test says.
    #[cfg(test)]
    pub(crate) fn with_dns(config: &FederationConfig, dns: Dns) -> Result<Self, ConfigError> {
        Ok(Self {
            dns: Arc::new(dns),
            ..Self::new(config)?
        })
    }

    /// The same with these exceptions from what may not be connected to, instead of those for federation.
    pub(crate) fn with_exceptions(&self, ranges: &[IpNet]) -> Self {
        Self {
            dns: self.dns.clone(),
            roots: self.roots.clone(),
            tls: self.tls.clone(),
            config: FederationConfig {
                allowed_ranges: ranges.to_vec(),
                ..self.config.clone()
            },
        }
    }

    /// The same where other addresses may be connected to.
    pub(crate) fn with_reach(&self, reach: &Reach) -> Self {
        Self {
            dns: self.dns.clone(),
            roots: self.roots.clone(),
            tls: self.tls.clone(),
            config: FederationConfig {
                allowed_ranges: reach.allowed.clone(),
                denied_ranges: reach.denied.clone(),
                ..self.config.clone()
            },
        }
    }

    pub(crate) fn dns(&self) -> &Dns {
        &self.dns
    }

    pub(crate) fn config(&self) -> &FederationConfig {
        &self.config
    }

    /// Whose certificates are trusted.
    pub(crate) fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    /// A client that connects to this address alone, while its URLs say which name the certificate must be valid for. They
    /// must have passed [`Dialer::check`]. Of HTTP it speaks what the other side likes best, or version 1.1 alone, where
    /// the `Host` header is ours to choose.
    pub(crate) fn client(
        self: &Arc<Self>,
        at: SocketAddr,
        speaks: Speaks,
    ) -> reqwest::Result<Client> {
        self.client_with(at, speaks, self.tls.clone())
    }

    /// [`Dialer::client`], whose certificates this one judges. Each connection shows its certificate anew.
    pub(crate) fn judged_client(
        self: &Arc<Self>,
        at: SocketAddr,
        speaks: Speaks,
        judge: Arc<dyn ServerCertVerifier>,
    ) -> reqwest::Result<Client> {
        let mut tls = self.tls.clone();
        tls.resumption = Resumption::disabled();
        tls.dangerous().set_certificate_verifier(judge);
        self.client_with(at, speaks, tls)
    }

    fn client_with(
        self: &Arc<Self>,
        at: SocketAddr,
        speaks: Speaks,
        mut tls: rustls::ClientConfig,
    ) -> reqwest::Result<Client> {
        if speaks == Speaks::Newest {
            tls.alpn_protocols = newest();
        }
        let builder = self
            .builder(Some(at), tls)
            .user_agent(USER_AGENT)
            .https_only(true)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE);
        match speaks {
            Speaks::OneAlone => builder.http1_only().build(),
            Speaks::Newest => builder
                .http2_keep_alive_interval(PING_AFTER)
                .http2_keep_alive_timeout(PING_TIME)
                .http2_initial_stream_window_size(AHEAD)
                .http2_initial_connection_window_size(AHEAD_IN_ALL)
                .build(),
        }
    }

    /// A client for web addresses, `http` ones too, which connects to each URL's host and keeps no connection. For
    /// [`Web`](super::web::Web) alone, which asks the rules about each URL.
    pub(crate) fn visitor(self: &Arc<Self>) -> reqwest::Result<Client> {
        self.builder(None, self.tls.clone())
            .http1_only()
            .user_agent(VISITOR)
            .pool_max_idle_per_host(0)
            .build()
    }

    /// A client for web addresses to which something is brought again and again, so that connections are kept; of HTTP
    /// it speaks what the other side likes best. URLs must be judged before.
    pub(crate) fn messenger(self: &Arc<Self>) -> reqwest::Result<Client> {
        let mut tls = self.tls.clone();
        tls.alpn_protocols = newest();
        self.builder(None, tls)
            .user_agent(USER_AGENT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .build()
    }

    fn builder(
        self: &Arc<Self>,
        at: Option<SocketAddr>,
        tls: rustls::ClientConfig,
    ) -> ClientBuilder {
        Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Guide {
                dialer: self.clone(),
                at,
            })
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
    }

    /// The egress rules for a URL whose host is an address, which no resolver gets to see. Asks the
    /// parsed URL, as `127.1` and `0x7f000001` are addresses to it, too.
    pub(crate) fn check(&self, url: &Url) -> Result<(), Reason> {
        let host = url.host_str().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse() {
            Ok(ip) if !self.config.may_connect_to(ip) => Err(denied(ip)),
            _ => Ok(()),
        }
    }

    /// The addresses of a target.
    pub(crate) async fn look_up(&self, target: &Target) -> Result<Vec<SocketAddr>, Reason> {
        match target {
            Target::Address(address) => Ok(vec![*address]),
            Target::Host(host, port) => match self.dns.addresses(host).await {
                Ok(ips) => Ok(ips.into_iter().map(|ip| (ip, *port).into()).collect()),
                Err(why) => Err(format!("{host}: {why}")),
            },
        }
    }

    /// The places of all targets, in their order, as far as the egress rules allow them. Where a name has addresses of
    /// both families, these take turns.
    pub(crate) async fn places(&self, targets: &[Target]) -> Result<Vec<Place>, Reason> {
        let found = join_all(targets.iter().map(|target| self.look_up(target)));
        let most = MAX_ADDRESSES.div_ceil(targets.len().max(1));
        let mut places: Vec<Place> = Vec::new();
        let mut reason = "the name has no address".to_owned();
        for (target, found) in found.await.into_iter().enumerate() {
            let found: Vec<SocketAddr> = match found {
                Ok(found) => found,
                Err(why) => {
                    reason = why;
                    continue;
                }
            };
            let may = |address: &SocketAddr| self.config.may_connect_to(address.ip());
            let (allowed, others): (Vec<_>, Vec<_>) = found.into_iter().partition(may);
            if let Some(address) = others.first() {
                reason = denied(address.ip());
            }
            for address in places::in_turn(allowed).into_iter().take(most) {
                if places.iter().all(|place| place.address != address) {
                    places.push(Place { target, address });
                }
            }
        }
        if places.is_empty() {
            return Err(reason);
        }
        Ok(places)
    }
}

/// Which HTTP a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// 1.1.
    OneAlone,
    /// 2 where the other side does, else 1.1.
    Newest,
}

fn newest() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

pub(crate) fn denied(ip: IpAddr) -> Reason {
    format!("{ip} is in a range that federation may not connect to")
}

/// Tells a client where to connect to: the one place that was chosen, whose port holds for URLs that say none, or
/// wherever a URL's host is.
struct Guide {
    dialer: Arc<Dialer>,
    at: Option<SocketAddr>,
}

impl Resolve for Guide {
    fn resolve(&self, name: Name) -> Resolving {
        let (dialer, at) = (self.dialer.clone(), self.at);
        Box::pin(async move {
            let addresses = if let Some(at) = at {
                if !dialer.config.may_connect_to(at.ip()) {
                    return Err(denied(at.ip()).into());
                }
                vec![at]
            } else {
                // Port 0 stands for the URL's.
                let name = name.as_str();
                let name = name.strip_suffix('.').unwrap_or(name);
                let target = Target::Host(name.to_owned(), 0);
                let places = dialer.places(&[target]).await?;
                places.into_iter().map(|place| place.address).collect()
            };
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The platform's roots and the configured ones.
fn roots(config: &FederationConfig) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in native.errors {
        tracing::warn!(%error, "some of the system's CA certificates can't be read");
    }
    roots.add_parsable_certificates(native.certs);
    for pem in &config.extra_ca_pem {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate =
                certificate.map_err(|error| ConfigError::Certificate(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| ConfigError::Certificate(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(ConfigError::Certificate(
                "it holds no certificate".to_owned(),
            ));
        }
    }
    if roots.is_empty() {
        tracing::warn!("no CA certificate is trusted: no other server can be reached");
    }
    Ok(roots)
}

/// TLS with these roots, offering HTTP/1.1 alone where nothing else is said.
fn tls_config(roots: Arc<RootCertStore>) -> Result<rustls::ClientConfig, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::Client(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_spellings_of_addresses_are_refused() {
        let dialer = Dialer::new(&FederationConfig::default()).unwrap();
        for denied in ["127.1", "0x7f000001", "2130706433", "[::1]", "10.0.0.1:80"] {
            let url = Url::parse(&format!("https://{denied}/")).unwrap();
            assert!(dialer.check(&url).is_err(), "{denied}");
        }
        for allowed in ["8.8.8.8", "localhost", "[2606:4700::1111]:1"] {
            let url = Url::parse(&format!("https://{allowed}/")).unwrap();
            assert!(dialer.check(&url).is_ok(), "{allowed}");
        }
    }

    #[test]
    fn what_is_open_to_federation_is_not_to_whoever_names_an_address() {
        let ours: IpNet = "10.0.0.0/8".parse().unwrap();
        let config = FederationConfig {
            allowed_ranges: vec![ours],
            ..FederationConfig::default()
        };
        let dialer = Dialer::new(&config).unwrap();
        let url = Url::parse("https://10.0.0.1/").unwrap();
        assert!(dialer.check(&url).is_ok());
        assert!(dialer.with_exceptions(&[]).check(&url).is_err());
        assert!(dialer.with_exceptions(&[ours]).check(&url).is_ok());
    }
}
