//! What is brought to web addresses: notifications, to gateways that users name and to services of the operator's.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use reqwest::{Client, Url};
use tokio::time::timeout;

use super::{Schemes, WebError, rules};
use crate::{
    FederationConfig,
    outbound::{dialer::Dialer, error::cause},
};

/// Brings things to web addresses, where the egress rules allow it.
pub struct Messenger {
    config: FederationConfig,
    way: Way,
}

enum Way {
    Network(Client),
    #[cfg(any(test, feature = "testing"))]
    InProcess(crate::testing::Network),
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, or its beginning.
    pub body: Vec<u8>,
}

impl Messenger {
    pub(crate) fn new(dialer: &Arc<Dialer>) -> reqwest::Result<Self> {
        Ok(Self {
            config: dialer.config().clone(),
            way: Way::Network(dialer.messenger()?),
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

    /// Brings something to an address. No redirect is followed. The answer is waited for at most `within`, and read up to
    /// `most` bytes of its body.
    ///
    /// # Errors
    /// See [`WebError`]; none for a status.
    pub async fn bring(
        &self,
        (method, url): (Method, Url),
        headers: HeaderMap,
        body: Vec<u8>,
        (schemes, within, most): (Schemes, Duration, usize),
    ) -> Result<Answer, WebError> {
        rules::check(&url, schemes, &self.config)?;
        let exchange = async {
            let response = self.exchange(method, url, headers, body.into()).await?;
            let (parts, body) = response.into_parts();
            Ok(Answer {
                status: parts.status,
                headers: parts.headers,
                body: beginning(body, most).await?,
            })
        };
        timeout(within, exchange)
            .await
            .unwrap_or(Err(WebError::Timeout))
    }

    async fn exchange(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, WebError> {
        match &self.way {
            Way::Network(client) => {
                let request = client.request(method, url).headers(headers).body(body);
                let response = request.send().await;
                let unreachable =
                    |error: reqwest::Error| WebError::Unreachable(cause(&error.without_url()));
                Ok(Response::from(response.map_err(unreachable)?).map(Body::new))
            }
            #[cfg(any(test, feature = "testing"))]
            Way::InProcess(network) => {
                let mut request = Request::new(Body::from(body));
                *request.method_mut() = method;
                let target = url.path().parse();
                *request.uri_mut() =
                    target.map_err(|_| WebError::Unreachable("it is no path".to_owned()))?;
                *request.headers_mut() = headers;
                let brought = network.bring(&url, request).await;
                brought.map_err(WebError::Unreachable)
            }
        }
    }
}

/// The first `most` bytes of a body.
async fn beginning(body: Body, most: usize) -> Result<Vec<u8>, WebError> {
    let (mut pieces, mut all) = (body.into_data_stream(), Vec::new());
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| WebError::Unreachable(cause(&error)))?;
        all.extend_from_slice(&piece[..piece.len().min(most - all.len())]);
        if all.len() >= most {
            break;
        }
    }
    Ok(all)
}
