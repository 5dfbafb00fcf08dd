//! The network side of discovery: `.well-known` over HTTPS and SRV over DNS.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use reqwest::Url;
use serde::Deserialize;

use crate::outbound::{
    date::http_date,
    dialer::Dialer,
    discovery::{Lookup, Srv, WellKnown, max_age},
    dns::Reason,
    web::{self, Schemes, Visit, Web, WebError},
};

/// The bounds of the question.
const VISIT: Visit = Visit {
    schemes: Schemes::Https,
    redirects: 5,
    most: 50 * 1024,
    time: Duration::from_secs(10),
    idle: Duration::from_secs(10),
};

/// Discovery's questions, asked over the network.
pub(crate) struct NetworkLookup {
    dialer: Arc<Dialer>,
    web: Arc<Web>,
}

impl NetworkLookup {
    pub(crate) fn new(dialer: Arc<Dialer>, web: Arc<Web>) -> Self {
        Self { dialer, web }
    }

    /// `GET https://<host>/.well-known/matrix/server`.
    ///
    /// # Errors
    /// See [`WebError`]; [`WebError::Answer`] for an answer that delegates to nobody.
    pub(crate) async fn fetch(&self, host: &str) -> Result<WellKnown, WebError> {
        let url = Url::parse(&format!("https://{host}/.well-known/matrix/server"))
            .map_err(|error| WebError::Refused(error.to_string()))?;
        let accept = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(header::ACCEPT, accept)]);
        let found = self.web.get(url, &headers, &VISIT).await?;
        let age = caching(&found.headers);
        let body = found.body.whole().await?;
        parse(&body, age).map_err(WebError::Answer)
    }
}

/// `{"m.server": …}`.
fn parse(body: &Bytes, max_age: Option<Duration>) -> Result<WellKnown, Reason> {
    #[derive(Deserialize)]
    struct Delegation {
        #[serde(rename = "m.server")]
        server: String,
    }
    let answer: Delegation = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let server = answer
        .server
        .as_str()
        .try_into()
        .map_err(|_| "m.server is no name".to_owned())?;
    Ok(WellKnown {
        server: Some(server),
        max_age,
    })
}

fn caching(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| web::text(headers, name);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()?;
    let expires = text(header::EXPIRES).map(|date| http_date(date).unwrap_or(0));
    max_age(
        text(header::CACHE_CONTROL),
        expires,
        i64::try_from(now.as_secs()).ok()?,
    )
}

impl Lookup for NetworkLookup {
    async fn well_known(&self, host: &str) -> WellKnown {
        // Few requests come here; all would carry its room along.
        Box::pin(self.fetch(host)).await.unwrap_or_else(|reason| {
            tracing::debug!(host, %reason, "no .well-known");
            WellKnown {
                server: None,
                max_age: None,
            }
        })
    }

    async fn srv(&self, name: &str) -> Result<Vec<Srv>, String> {
        // A name server that fails for SRV (as those of container networks do) is no reason to give up:
        // whatever is reached instead must show the same certificate.
        Ok(self.dialer.dns().srv(name).await.unwrap_or_else(|reason| {
            tracing::debug!(name, reason, "SRV records can't be looked up");
            Vec::new()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let parse = |text: &str| parse(&Bytes::copy_from_slice(text.as_bytes()), None);
        assert!(parse(r#"{"m.server": "b.example:443", "x": 1}"#).is_ok());
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"m.server": 1}"#,
            r#"{"m.server": ""}"#,
            r#"{"m.server": "a/b"}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
