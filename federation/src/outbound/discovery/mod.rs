//! From a server name to where its federation API listens
//! (<https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>).
//!
//! The decisions are plain functions of values ([`start`], [`delegated`], [`by_srv`]); [`resolve`]
//! asks a [`Lookup`] between them. [`Discovery`] caches what came out.

mod cache;
mod srv;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ruma::{OwnedServerName, ServerName};

pub use cache::{Discovery, max_age};

/// The port of the federation API where nothing else is said.
const DEFAULT_PORT: u16 = 8448;
/// SRV targets that are tried.
const MAX_TARGETS: usize = 4;
/// Where to connect to and how to present oneself there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// To be tried in this order.
    pub targets: Vec<Target>,
    /// The `Host` header.
    pub host_header: String,
    /// The name or address that the certificate must be valid for (an IPv6 address without brackets).
    pub certificate_name: String,
}

impl Route {
    /// Whether the `Host` header says the certificate's name, and at most a port.
    pub(crate) fn says_one_name(&self) -> bool {
        let port = self.host_header.strip_prefix(&self.certificate_name);
        port.is_some_and(|port| port.is_empty() || port.starts_with(':'))
    }
}

/// One place to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An address, no lookup needed.
    Address(SocketAddr),
    /// A host name to look up (CNAME, AAAA, A), and a port.
    Host(String, u16),
}

/// An SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// Lower is tried first.
    pub priority: u16,
    /// Among equal priorities, the more it weighs the more likely it is tried first.
    pub weight: u16,
    /// The host, with or without final dot.
    pub target: String,
    /// The port.
    pub port: u16,
}

/// What the first look at a server name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Steps 1 and 2: nothing to ask.
    Known(Route),
    /// Step 3: ask this host for `/.well-known/matrix/server`.
    WellKnown(String),
}

/// The answer to a request for `/.well-known/matrix/server`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WellKnown {
    /// `m.server`; `None` when there is no valid answer.
    pub server: Option<OwnedServerName>,
    /// How long this may be cached, as the answer's headers say; `None` when they don't.
    pub max_age: Option<Duration>,
}

/// The I/O that discovery needs.
pub trait Lookup: Send + Sync {
    /// `GET https://<host>/.well-known/matrix/server`. Any failure is an answer without a server.
    fn well_known(&self, host: &str) -> impl Future<Output = WellKnown> + Send;
    /// The SRV records of a name; empty when there are none. `Err` only when DNS itself failed.
    fn srv(&self, name: &str) -> impl Future<Output = Result<Vec<Srv>, String>> + Send;
}

/// An IP literal with its port, if the name is one.
fn literal(name: &ServerName) -> Option<(IpAddr, Option<u16>)> {
    let host = name.host();
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    Some((bare.parse().ok()?, name.port()))
}

/// Steps 1 and 2 for a server name or a delegated one (3.1, 3.2): those that need no SRV lookup.
fn explicit(name: &ServerName) -> Option<Route> {
    if let Some((ip, port)) = literal(name) {
        return Some(Route {
            targets: vec![Target::Address(SocketAddr::new(
                ip,
                port.unwrap_or(DEFAULT_PORT),
            ))],
            host_header: name.as_str().to_owned(),
            certificate_name: ip.to_string(),
        });
    }
    let port = name.port()?;
    Some(Route {
        targets: vec![Target::Host(name.host().to_owned(), port)],
        host_header: name.as_str().to_owned(),
        certificate_name: name.host().to_owned(),
    })
}

/// Steps 1, 2 and the beginning of 3.
pub fn start(name: &ServerName) -> Start {
    explicit(name).map_or_else(|| Start::WellKnown(name.host().to_owned()), Start::Known)
}

/// After `.well-known`: 3.1 and 3.2 are known; otherwise the host whose SRV records are to be asked
/// for (3.3 for a delegated name, step 4 without one).
pub fn delegated(host: &str, well_known: &WellKnown) -> Result<Route, String> {
    match &well_known.server {
        Some(server) => explicit(server).ok_or_else(|| server.host().to_owned()),
        None => Err(host.to_owned()),
    }
}

/// 3.3–3.5 and 4–6: the route by SRV records, or port 8448 when there are none. `seed` decides where RFC 2782 leaves it to
/// chance.
pub fn by_srv(host: &str, records: Vec<Srv>, seed: u64) -> Route {
    let records = records
        .into_iter()
        .map(|srv| Srv {
            target: srv.target.trim_end_matches('.').to_owned(),
            ..srv
        })
        // A target of "." says: decidedly not available here (RFC 2782).
        .filter(|srv| !srv.target.is_empty());
    let mut targets: Vec<Target> = srv::in_order(records.collect(), seed, MAX_TARGETS)
        .into_iter()
        .map(|srv| Target::Host(srv.target, srv.port))
        .collect();
    if targets.is_empty() {
        targets.push(Target::Host(host.to_owned(), DEFAULT_PORT));
    }
    Route {
        targets,
        host_header: host.to_owned(),
        certificate_name: host.to_owned(),
    }
}

/// The whole procedure; `seed` is [`by_srv`]'s.
///
/// # Errors
/// DNS failed.
pub async fn resolve(
    name: &ServerName,
    lookup: &impl Lookup,
    seed: u64,
    well_known: impl AsyncFnOnce(String) -> WellKnown,
) -> Result<Route, String> {
    let host = match start(name) {
        Start::Known(route) => return Ok(route),
        Start::WellKnown(host) => host,
    };
    let answer = well_known(host.clone()).await;
    let host = match delegated(&host, &answer) {
        Ok(route) => return Ok(route),
        Err(host) => host,
    };
    let mut records = lookup.srv(&format!("_matrix-fed._tcp.{host}.")).await?;
    if records.is_empty() {
        records = lookup.srv(&format!("_matrix._tcp.{host}.")).await?;
    }
    Ok(by_srv(&host, records, seed))
}
