//! Connections to Matrix servers: one `reqwest` client per destination, along discovery's answer.
//!
//! A client connects to one place, the one that was found there ([`race`](super::race)), and that is kept for as long as it
//! is of use. Who can't be connected to, shows a wrong certificate, or turns out to be a proxy with nobody behind it, is
//! left alone for a while, and the request goes to the next place, if it may be sent twice.

mod nobody;
#[cfg(test)]
mod tests;
mod way;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::body::{Body, Bytes};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use ipnet::IpNet;
use reqwest::{Client, Url};
use ruma::{OwnedServerName, ServerName};

use self::way::{Held, Way};
use crate::{
    FederationConfig,
    config::ConfigError,
    outbound::{
        dialer::{Dialer, Reach, Speaks},
        discovery::{Discovery, Route, Target},
        error::{OutboundError, cause},
        race,
        web::{Messenger, Web},
        wellknown::NetworkLookup,
    },
};

/// Destinations whose clients are kept.
const MAX_CLIENTS: usize = 1000;
/// Places that one request goes to.
const MAX_TRIES: usize = 4;

/// Sends requests to Matrix servers, each over its own client.
pub(crate) struct Connections {
    dialer: Arc<Dialer>,
    web: Web,
    discovery: Discovery<NetworkLookup>,
    ways: Mutex<HashMap<OwnedServerName, Kept>>,
}

/// The way to a destination, and when it was last asked for.
struct Kept {
    way: Arc<Way>,
    used: Instant,
}

/// A request that can be sent again.
struct Asked {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Bytes>,
}

/// What became of a request.
enum Outcome {
    /// This is all.
    Told(Result<Response<Body>, OutboundError>),
    /// Nobody is there, which the next place needn't say.
    Nobody(Result<Response<Body>, OutboundError>),
}

impl Connections {
    pub(crate) fn new(config: &FederationConfig) -> Result<Self, ConfigError> {
        Self::over(Dialer::new(config)?)
    }

    fn over(dialer: Dialer) -> Result<Self, ConfigError> {
        let dialer = Arc::new(dialer);
        let client = |error: reqwest::Error| ConfigError::Client(cause(&error));
        let servers = Arc::new(Web::new(&dialer).map_err(client)?);
        let lookup = NetworkLookup::new(dialer.clone(), servers);
        let web = Web::new(&Arc::new(dialer.with_exceptions(&[]))).map_err(client)?;
        Ok(Self {
            dialer,
            web,
            discovery: Discovery::new(lookup),
            ways: Mutex::default(),
        })
    }

    /// Web addresses that others name. Where servers in our own network may be reached, these may not be.
    pub(crate) fn web(&self) -> &Web {
        &self.web
    }

    /// The same with exceptions.
    pub(crate) fn web_with(&self, ranges: &[IpNet]) -> reqwest::Result<Web> {
        Web::new(&Arc::new(self.dialer.with_exceptions(ranges)))
    }

    /// What brings something to web addresses.
    pub(crate) fn messenger(&self, reach: &Reach) -> reqwest::Result<Messenger> {
        Messenger::new(&Arc::new(self.dialer.with_reach(reach)))
    }

    /// Sends a request, whose URI is its target alone, to where discovery says.
    pub(crate) async fn send(
        &self,
        destination: &ServerName,
        request: Request<Option<String>>,
    ) -> Result<Response<Body>, OutboundError> {
        let route = self
            .discovery
            .route(destination)
            .await
            .map_err(OutboundError::Discovery)?;
        // Boxed: who waits for an answer is often part of something large.
        let answer = Box::pin(self.along(destination, &route, request)).await;
        if matches!(answer, Err(OutboundError::Transport(_))) {
            // What is known may be out of date.
            self.discovery.forget(destination);
        }
        answer
    }

    /// Forgets where a server was found, and which of its places were of no use.
    pub(crate) fn look_again(&self, server: &ServerName) {
        self.discovery.forget_all(server);
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        ways.remove(server);
    }

    /// Sends a request to the places of a route, until somebody is there.
    async fn along(
        &self,
        destination: &ServerName,
        route: &Arc<Route>,
        request: Request<Option<String>>,
    ) -> Result<Response<Body>, OutboundError> {
        let url = url(route, &request.uri().to_string())?;
        self.dialer.check(&url).map_err(OutboundError::Transport)?;
        let (parts, body) = request.into_parts();
        let mut asked = Asked {
            method: parts.method,
            headers: parts.headers,
            body: body.map(Bytes::from),
            url,
        };
        if speaks(&asked.url, route) == Speaks::OneAlone {
            let host = HeaderValue::from_str(&route.host_header);
            let host = host.map_err(|_| OutboundError::Discovery(route.host_header.clone()))?;
            asked.headers.insert(header::HOST, host);
        }
        let way = self.way(destination);
        let (mut tried, mut last) = (Vec::new(), None);
        while tried.len() < MAX_TRIES {
            let held = match Box::pin(self.held(&way, route, &asked.url, &tried)).await {
                Ok(Some(held)) => held,
                Ok(None) => break,
                Err(error) => return last.unwrap_or(Err(error)),
            };
            let has_another = way.has_another(&tried, held.at);
            let trying = way.trying(held.at);
            let outcome = ask(&held.client, &asked, has_another).await;
            trying.has_ended();
            match outcome {
                Outcome::Told(answer) => return answer,
                Outcome::Nobody(answer) => {
                    way.failed(held.at);
                    tried.push(held.at);
                    last = Some(answer);
                }
            }
        }
        last.unwrap_or_else(|| Err(OutboundError::Transport("it has no address".to_owned())))
    }

    /// The way to a destination.
    fn way(&self, destination: &ServerName) -> Arc<Way> {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let used = Instant::now();
        if let Some(kept) = ways.get_mut(destination) {
            kept.used = used;
            return kept.way.clone();
        }
        if ways.len() >= MAX_CLIENTS
            && let Some(oldest) = ways.iter().min_by_key(|(_, kept)| kept.used)
        {
            let oldest = oldest.0.clone();
            ways.remove(&oldest);
        }
        let way: Arc<Way> = Arc::default();
        let kept = Kept {
            way: way.clone(),
            used,
        };
        ways.insert(destination.to_owned(), kept);
        way
    }

    /// The client for a place that wasn't tried yet: the one in use, or one that is chosen now. `None`: all were tried.
    async fn held(
        &self,
        way: &Way,
        route: &Arc<Route>,
        url: &Url,
        tried: &[SocketAddr],
    ) -> Result<Option<Held>, OutboundError> {
        if let Some(held) = way.held(route, tried) {
            return Ok(Some(held));
        }
        let waiting = Instant::now();
        let _only = way.choosing().await;
        // Somebody else may have chosen meanwhile, or found nobody: all who wait would else look one after the other.
        if let Some(held) = way.held(route, tried) {
            return Ok(Some(held));
        }
        if let Some(why) = way.lost_since(waiting) {
            return Err(OutboundError::Transport(why));
        }
        if !way.knows_places_of(route) {
            let places = self.dialer.places(&route.targets).await;
            let places = places.map_err(|reason| {
                way.lost(&[], &reason);
                OutboundError::Transport(reason)
            })?;
            way.look_up(route, places);
        }
        let open = way.to_try(tried);
        let at = match (way.of_use(&open), open.as_slice()) {
            (Some(at), _) => at,
            (None, []) => return Ok(None),
            (None, [only]) => only.address,
            (None, several) => race::winner(several).await.map_err(|reason| {
                way.lost(several, &reason);
                OutboundError::Transport(reason)
            })?,
        };
        let new_client = || self.dialer.client(at, speaks(url, route));
        let held = way.hold(route, at, new_client);
        held.map(Some)
            .map_err(|error| OutboundError::Request(cause(&error)))
    }
}

/// Sends a request by this client. `has_another`: there is another place to ask.
async fn ask(client: &Client, asked: &Asked, has_another: bool) -> Outcome {
    let mut request = client
        .request(asked.method.clone(), asked.url.clone())
        .headers(asked.headers.clone());
    if let Some(body) = &asked.body {
        request = request.body(body.clone());
    }
    match request.send().await {
        Err(error) => {
            let was_taken = !nobody::was_not_taken(&asked.method, &error);
            let error = OutboundError::Transport(cause(&error.without_url()));
            if was_taken {
                Outcome::Told(Err(error))
            } else {
                Outcome::Nobody(Err(error))
            }
        }
        Ok(response) => {
            let response = Response::from(response).map(Body::new);
            if !has_another || !nobody::may_be_absent(&asked.method, response.status()) {
                return Outcome::Told(Ok(response));
            }
            let (response, speaks_matrix) = nobody::look_at(response).await;
            if speaks_matrix {
                Outcome::Told(Ok(response))
            } else {
                Outcome::Nobody(Ok(response))
            }
        }
    }
}

/// The URL of a target on a route. It says the certificate's name, and of ports the one that the route's name says; that of
/// the place holds where it says none. For an address, which needs no lookup, both.
pub(super) fn url(route: &Route, target: &str) -> Result<Url, OutboundError> {
    let authority = match route.targets.first() {
        Some(Target::Address(address)) => address.to_string(),
        _ if route.says_one_name() => route.host_header.clone(),
        _ => route.certificate_name.clone(),
    };
    let url = Url::parse(&format!("https://{authority}{target}"))
        .map_err(|error| OutboundError::Discovery(format!("{authority}: {error}")))?;
    // What is sent must be what was signed.
    if !url.as_str().ends_with(target) {
        let why = "its path can't be part of a URL".to_owned();
        return Err(OutboundError::Request(why));
    }
    Ok(url)
}

/// What can be spoken on a route: HTTP/2 has no `Host` but what the URL says, which leaves out port 443, and says another
/// one for an address whose name has none.
pub(super) fn speaks(url: &Url, route: &Route) -> Speaks {
    let host = url.host_str().unwrap_or_default();
    let says_host = match url.port() {
        Some(port) => route.host_header == format!("{host}:{port}"),
        None => route.host_header == host,
    };
    if says_host {
        Speaks::Newest
    } else {
        Speaks::OneAlone
    }
}
