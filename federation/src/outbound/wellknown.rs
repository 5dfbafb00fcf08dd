//! The network side of discovery: `.well-known` over HTTPS and SRV over DNS.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use reqwest::Url;
use serde::Deserialize;

use crate::outbound::{
    dialer::Dialer,
    discovery::{Lookup, Srv, WellKnown, max_age},
    dns::Reason,
    web::{self, Schemes, Visit, Web},
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

    async fn fetch(&self, host: &str) -> Result<WellKnown, Reason> {
        let url = Url::parse(&format!("https://{host}/.well-known/matrix/server"))
            .map_err(|error| error.to_string())?;
        let accept = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(header::ACCEPT, accept)]);
        let found = self.web.get(url, &headers, &VISIT).await;
        let found = found.map_err(|error| error.to_string())?;
        let age = caching(&found.headers);
        let body = found.body.whole().await;
        parse(&body.map_err(|error| error.to_string())?, age)
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
        // Few requests come here; all would carry its room along.
        Box::pin(self.fetch(host)).await.unwrap_or_else(|reason| {
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
