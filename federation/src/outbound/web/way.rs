//! How a web address is come to.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use reqwest::{Client, Url};

use super::WebError;
use crate::outbound::error::cause;

/// See the module.
pub(super) enum Way {
    Network(Client),
    /// An in-process network as the web: its servers' names are hosts.
    #[cfg(any(test, feature = "testing"))]
    InProcess(crate::testing::Network),
}

impl Way {
    /// One request, to an address that was judged, and its answer.
    pub(super) async fn exchange(
        &self,
        (method, url): (Method, Url),
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, WebError> {
        match self {
            Self::Network(client) => {
                let request = client.request(method, url).headers(headers).body(body);
                let response = request.send().await;
                let unreachable =
                    |error: reqwest::Error| WebError::Unreachable(cause(&error.without_url()));
                Ok(Response::from(response.map_err(unreachable)?).map(Body::new))
            }
            #[cfg(any(test, feature = "testing"))]
            Self::InProcess(network) => {
                let visited = network.visit((method, &url), headers, body).await;
                visited.map_err(WebError::Unreachable)
            }
        }
    }
}
