//! Web addresses that strangers name: links in messages, places that other servers send us on to.
//!
//! Whoever names an address may mean the machine next to ours. So each hop is judged by itself: the URL by what it
//! says ([`rules`]), the addresses of its name when the connection is opened. It is the resolver of the client that
//! asks the egress rules, so what was judged is what is connected to; there is no second lookup for a name server
//! to answer differently. Cookies aren't kept, no encodings are accepted (nothing unpacks), and nothing of one hop is
//! told to the next.
//!
//! Bounded are: hops, the time for all of it, the time between two pieces, the bytes of the body, and by the
//! client the head of an answer (100 lines, 400 KiB).

mod body;
mod messenger;
mod rules;
#[cfg(test)]
mod tests;
mod way;

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use reqwest::Url;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

pub use body::WebBody;
pub use messenger::{Answer, Messenger};

use self::way::Way;
use crate::{FederationConfig, outbound::dialer::Dialer};

/// The web as it may be visited from here.
pub(crate) struct Web {
    config: FederationConfig,
    way: Way,
}

/// Which schemes will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schemes {
    /// `https` alone, on every hop.
    Https,
    /// `http`, too.
    Any,
}

/// The bounds of a visit.
#[derive(Debug, Clone, Copy)]
pub struct Visit {
    /// Which schemes will do.
    pub schemes: Schemes,
    /// Redirects that are followed.
    pub redirects: usize,
    /// The most bytes of the body.
    pub most: u64,
    /// Time for all of it: redirects, head and body.
    pub time: Duration,
    /// Time until there is another piece of the body.
    pub idle: Duration,
}

/// What is at a web address: an answer of status 200.
pub struct Found {
    /// Where it was in the end.
    pub url: Url,
    /// What is said of it.
    pub headers: HeaderMap,
    /// Its bytes.
    pub body: WebBody,
}

/// Why a web address gives nothing. The texts are for the log: they may tell of our network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WebError {
    /// It may not be visited.
    #[error("it may not be visited: {0}")]
    Refused(String),
    /// It isn't there, or its name leads where nothing may be connected to, or the transfer broke off.
    #[error("it can't be reached: {0}")]
    Unreachable(String),
    /// It took longer than it may.
    #[error("it took too long")]
    Timeout,
    /// It has more bytes than are wanted.
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
    /// It answers something else than 200.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// The answer can't be used.
    #[error("its answer is of no use: {0}")]
    Answer(String),
}

impl Web {
    /// The web, over this dialer's connections.
    pub(crate) fn new(dialer: &Arc<Dialer>) -> reqwest::Result<Self> {
        Ok(Self {
            config: dialer.config().clone(),
            way: Way::Network(dialer.visitor()?),
        })
    }

    /// An in-process network as the web: its servers' names are hosts.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn in_process(config: &FederationConfig, network: crate::testing::Network) -> Self {
        Self {
            config: config.clone(),
            way: Way::InProcess(network),
        }
    }

    /// What may be visited.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn config(&self) -> &FederationConfig {
        &self.config
    }

    /// Gets what is at a web address, with these headers besides the usual.
    ///
    /// # Errors
    /// See [`WebError`].
    pub(crate) async fn get(
        &self,
        url: Url,
        headers: &HeaderMap,
        visit: &Visit,
    ) -> Result<Found, WebError> {
        self.get_where(url, headers, visit, &|_| true).await
    }

    /// [`Web::get`], with a further rule for each hop.
    ///
    /// # Errors
    /// See [`WebError`].
    pub(crate) async fn get_where(
        &self,
        url: Url,
        headers: &HeaderMap,
        visit: &Visit,
        permits: &(dyn Fn(&Url) -> bool + Send + Sync),
    ) -> Result<Found, WebError> {
        let until = Instant::now() + visit.time;
        let visited = timeout_at(until, self.follow(url, headers, visit, permits)).await;
        let (url, response) = visited.map_err(|_| WebError::Timeout)??;
        let (parts, body) = response.into_parts();
        if parts.status != StatusCode::OK {
            return Err(WebError::Status(parts.status));
        }
        if let Some(encoding) = encoding(&parts.headers) {
            return Err(WebError::Answer(format!("it is encoded as {encoding}")));
        }
        Ok(Found {
            url,
            headers: parts.headers,
            body: WebBody::new(body, visit, until)?,
        })
    }

    /// From redirect to redirect, to an answer that is none.
    async fn follow(
        &self,
        mut url: Url,
        headers: &HeaderMap,
        visit: &Visit,
        permits: &(dyn Fn(&Url) -> bool + Send + Sync),
    ) -> Result<(Url, Response<Body>), WebError> {
        for _ in 0..=visit.redirects {
            rules::check(&url, visit.schemes, &self.config)?;
            if !permits(&url) {
                return Err(WebError::Refused("its host isn't permitted".to_owned()));
            }
            let asked = (Method::GET, url.clone());
            let exchange = self.way.exchange(asked, headers.clone(), Bytes::new());
            let response = exchange.await?;
            if !rules::redirects(response.status()) {
                return Ok((url, response));
            }
            url = rules::redirect(&url, response.headers().get(header::LOCATION))?;
        }
        Err(WebError::Answer("it redirects too often".to_owned()))
    }
}

/// The encoding of a body that isn't as it is.
fn encoding(headers: &HeaderMap) -> Option<&str> {
    let said = headers.get(header::CONTENT_ENCODING)?;
    let said = said.to_str().unwrap_or("something odd").trim();
    (!said.is_empty() && !said.eq_ignore_ascii_case("identity")).then_some(said)
}

/// A header's text, if it is one.
pub(crate) fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers
        .get(name)
        .and_then(|it: &HeaderValue| it.to_str().ok())
}
