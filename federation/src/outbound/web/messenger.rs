//! What is brought to web addresses: notifications, to gateways that users name and to services of the operator's.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use futures_util::StreamExt as _;
use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;
use tokio::time::timeout;

use super::{Schemes, WebError, rules, way::Way};
use crate::{
    FederationConfig,
    outbound::{dialer::Dialer, error::cause},
};

/// Brings things to web addresses, where the egress rules allow it.
pub struct Messenger {
    config: FederationConfig,
    way: Way,
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
        to: (Method, Url),
        headers: HeaderMap,
        body: Vec<u8>,
        (schemes, within, most): (Schemes, Duration, usize),
    ) -> Result<Answer, WebError> {
        rules::check(&to.1, schemes, &self.config)?;
        let exchange = async {
            let response = self.way.exchange(to, headers, body.into()).await?;
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
