//! The network side of discovery: `.well-known` over HTTPS and SRV over DNS.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, Bytes};
use http::{HeaderValue, StatusCode, header};
use reqwest::{Client, Url};
use serde::Deserialize;

use crate::outbound::{
    dialer::Dialer,
    discovery::{Lookup, Srv, WellKnown, max_age},
    dns::Reason,
    error::cause,
};

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// The most bytes of an answer.
const MAX_BODY: usize = 50 * 1024;
/// Time for the whole, redirects included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Discovery's questions, asked over the network.
pub(crate) struct NetworkLookup {
    dialer: Arc<Dialer>,
    web: Client,
}

impl NetworkLookup {
    pub(crate) fn new(dialer: Arc<Dialer>) -> reqwest::Result<Self> {
        let web = dialer.client(None)?;
        Ok(Self { dialer, web })
    }

    async fn fetch(&self, host: &str) -> Result<WellKnown, Reason> {
        let mut url = Url::parse(&format!("https://{host}/.well-known/matrix/server"))
            .map_err(|error| error.to_string())?;
        // Redirects are followed here and not by the client, so that the egress rules are asked
        // about each.
        for _ in 0..=MAX_REDIRECTS {
            self.dialer.check(&url)?;
            let request = self.web.get(url.clone());
            let response = request
                .header(header::ACCEPT, "application/json")
                .header(header::CONNECTION, "close")
                .send()
                .await
                .map_err(|error| cause(&error))?;
            if response.status().is_redirection() {
                url = redirect(&url, response.headers().get(header::LOCATION))?;
                continue;
            }
            if response.status() != StatusCode::OK {
                return Err(format!("the answer is {}", response.status()));
            }
            let age = caching(response.headers());
            let body = axum::body::to_bytes(Body::new(reqwest::Body::from(response)), MAX_BODY)
                .await
                .map_err(|error| error.to_string())?;
            return parse(&body, age);
        }
        Err("too many redirects".to_owned())
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

/// Where a redirect leads: anywhere on `https`.
fn redirect(from: &Url, location: Option<&HeaderValue>) -> Result<Url, Reason> {
    let location = location
        .and_then(|value| value.to_str().ok())
        .ok_or("a redirect without Location")?;
    let url = from.join(location).map_err(|error| error.to_string())?;
    if url.scheme() != "https" {
        return Err("a redirect to something else than https".to_owned());
    }
    Ok(url)
}

fn caching(headers: &http::HeaderMap) -> Option<Duration> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
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

/// Seconds since 1970 of an HTTP date in its preferred form, `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let month_name = words.next()?;
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month_name)?).ok()? + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (
        clock.next()?.ok()?,
        clock.next()?.ok()?,
        clock.next()?.ok()?,
    );
    let is_time =
        (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
    if !(1970..10_000).contains(&year) || !(1..=31).contains(&day) || !is_time {
        return None;
    }
    // Days from the civil calendar, counted from March so that a leap day ends the year.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

impl Lookup for NetworkLookup {
    async fn well_known(&self, host: &str) -> WellKnown {
        let answer = tokio::time::timeout(TIMEOUT, self.fetch(host)).await;
        answer
            .unwrap_or_else(|_| Err("it took too long".to_owned()))
            .unwrap_or_else(|reason| {
                tracing::debug!(host, reason, "no .well-known");
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
    fn http_dates() {
        assert_eq!(
            http_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(784_111_777)
        );
        assert_eq!(
            http_date("Thu, 29 Feb 2024 00:00:00 GMT"),
            Some(1_709_164_800)
        );
        for bad in [
            "",
            "0",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov",
            "x, 1 Jan 99999 1:1:1 G",
            "x, 1 Jan 2024 9223372036854775807:0:0 G",
            "x, 1 Jan 2024 -9223372036854775808:0:0 G",
            "x, 1 Jan 2024 0:9223372036854775807:9223372036854775807 G",
            "x, 1 Jan 2024 23:60:00 G",
            "x, -9223372036854775808 Jan 2024 0:0:0 G",
            "x, 1 Jan -9223372036854775808 0:0:0 G",
        ] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn redirects_stay_on_https() {
        let from = Url::parse("https://a.example/.well-known/matrix/server").unwrap();
        let to = |location: &str| {
            let location = HeaderValue::from_str(location).unwrap();
            redirect(&from, Some(&location)).map(|url| url.to_string())
        };
        for (location, url) in [
            ("/x?y", "https://a.example/x?y"),
            ("other", "https://a.example/.well-known/matrix/other"),
            ("https://b.example:1/x", "https://b.example:1/x"),
            ("//b.example/x", "https://b.example/x"),
        ] {
            assert_eq!(to(location).unwrap(), url);
        }
        for bad in [
            "http://b.example/x",
            "file:///etc/passwd",
            "https://",
            "gopher://x",
        ] {
            assert!(to(bad).is_err(), "{bad}");
        }
        assert!(redirect(&from, None).is_err());
    }

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
