//! Pushers of kind `http`: a gateway of the app's makers hands the notification on
//! (<https://spec.matrix.org/v1.19/push-gateway-api/>).

use std::slice;
use std::time::SystemTime;

use serde::Deserialize;
use url::Url;

use crate::body;
use crate::channel::{Channel, Step};
use crate::detail::{Detail, fit};
use crate::error::{BuildError, PusherError};
use crate::message::{NamedBy, PushAnswer, PushRequest};
use crate::notification::{Device, Notification};
use crate::outcome::{Outcome, Reading, reason, retry_after};
use crate::pusher::{self, Schemes};

/// The path that a gateway's address has.
const PATH: &str = "/_matrix/push/v1/notify";
/// The most bytes of a body. What providers take of it is less by far.
const MAX_BODY: usize = 64 * 1024;
/// What of a pusher's data stays here.
const HIDDEN: [&str; 1] = ["url"];

/// Gateways, each named by its pusher.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gateways {
    schemes: Schemes,
}

#[derive(Deserialize)]
struct Answer {
    rejected: Vec<String>,
}

impl Gateways {
    /// Gateways at addresses of these schemes.
    pub fn new(schemes: Schemes) -> Self {
        Self { schemes }
    }

    /// The request for a user's devices behind one gateway; they have the same `url`.
    pub fn request(
        &self,
        notification: &Notification,
        devices: &[Device],
        at_most: Detail,
    ) -> Result<PushRequest, BuildError> {
        let first = devices.first().ok_or(PusherError::Missing("devices"))?;
        let url = self.url(first)?;
        let wanted = devices
            .iter()
            .map(Detail::wanted)
            .fold(at_most, Detail::min);
        let (detail, body) = fit(wanted, MAX_BODY, |detail| {
            body::write(notification, devices, detail, &HIDDEN)
        })?;
        Ok(PushRequest::json(url, body, NamedBy::User, detail))
    }

    /// What the gateway says of a request for these devices. Of pushkeys that it rejects only theirs count.
    ///
    /// The specification wants errors of HTTP to be tried again, so of 4xx only those are given up that say of the
    /// request itself that it's wrong.
    pub fn reading(answer: &PushAnswer, devices: &[Device], now: SystemTime) -> Reading {
        if answer.status.is_success() {
            return Reading::Done(accepted(&answer.body, devices));
        }
        let why = reason(answer.status, None);
        match answer.status.as_u16() {
            401..=404 | 407 | 409 | 421 | 423 => {
                Reading::again(retry_after(&answer.headers, now), why)
            }
            _ => Reading::of_status(answer, why, now),
        }
    }

    fn url(self, device: &Device) -> Result<Url, PusherError> {
        let url = pusher::url(device, self.schemes)?;
        if url.path() != PATH {
            return Err(PusherError::Invalid {
                field: "data.url",
                why: "must have the path /_matrix/push/v1/notify",
            });
        }
        Ok(url)
    }
}

fn accepted(body: &[u8], devices: &[Device]) -> Outcome {
    let rejected =
        serde_json::from_slice(body).map_or_else(|_| vec![], |answer: Answer| answer.rejected);
    let ours = devices.iter().map(|device| &device.pushkey);
    let rejected: Vec<_> = ours.filter(|key| rejected.contains(key)).cloned().collect();
    if rejected.is_empty() {
        return Outcome::Accepted;
    }
    Outcome::Rejected(rejected)
}

impl Channel for Gateways {
    fn check(&self, device: &Device) -> Result<(), PusherError> {
        pusher::check(device)?;
        self.url(device).map(|_| ())
    }

    fn next(
        &self,
        notification: &Notification,
        device: &Device,
        at_most: Detail,
        _now: SystemTime,
    ) -> Result<Step, BuildError> {
        let request = self.request(notification, slice::from_ref(device), at_most)?;
        Ok(Step::Send(request))
    }

    fn read(&self, answer: &PushAnswer, device: &Device, now: SystemTime) -> Reading {
        Self::reading(answer, slice::from_ref(device), now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::{Method, header};
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{answer, device, encrypted, message};

    const URL: &str = "https://push.example.org/_matrix/push/v1/notify";

    fn phone(key: &str) -> Device {
        device(key, &json!({ "url": URL }))
    }

    #[test]
    fn a_gateways_path_is_the_specifications() {
        let wrong = |url: &str| {
            Gateways::default()
                .check(&device("key", &json!({ "url": url })))
                .err()
        };
        assert_eq!(wrong(URL), None);
        assert_eq!(wrong(&format!("{URL}?token=x")), None);
        assert_eq!(
            wrong("https://push.example.org:8448/x/../_matrix/push/v1/notify"),
            None
        );
        for bad in [
            "https://push.example.org/_matrix/push/v1/notify/",
            "https://push.example.org/_matrix/push/r0/notify",
            "https://push.example.org/x/_matrix/push/v1/notify",
            "https://push.example.org/_matrix/push/v1/notify%2f",
            "https://push.example.org",
            "http://push.example.org/_matrix/push/v1/notify",
        ] {
            assert!(wrong(bad).is_some(), "{bad}");
        }
        assert_eq!(
            Gateways::default().check(&device("key", &json!({}))),
            Err(PusherError::Missing("data.url"))
        );
    }

    #[test]
    fn a_request_is_a_post_of_json() {
        let devices = [phone("one"), phone("two")];
        let request = Gateways::default()
            .request(&message("hello"), &devices, Detail::Full)
            .unwrap();
        assert_eq!(request.method, Method::POST);
        assert_eq!(request.url.as_str(), URL);
        assert_eq!(request.named_by, NamedBy::User);
        assert_eq!(request.headers[header::CONTENT_TYPE], "application/json");
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["notification"]["devices"][1]["pushkey"], "two");
        assert_eq!(body["notification"]["content"]["body"], "hello");
    }

    #[test]
    fn who_wants_ids_gets_ids() {
        let mut devices = [phone("one"), phone("two")];
        devices[1]
            .data
            .insert("format".into(), "event_id_only".into());
        let request = |devices: &[Device]| {
            let gateways = Gateways::default();
            gateways
                .request(&message("hello"), devices, Detail::Full)
                .unwrap()
                .detail
        };
        assert_eq!(request(&devices[..1]), Detail::Full);
        assert_eq!(request(&devices), Detail::EventIdOnly);
        // Ciphers are what the app's makers decrypt, or not: the specification has them in.
        let gateways = Gateways::default();
        let sent = gateways
            .request(&encrypted(), &devices[..1], Detail::Full)
            .unwrap();
        assert_eq!(sent.detail, Detail::Full);
    }

    #[test]
    fn content_that_is_too_large_is_left_out() {
        let request = |text: &str, at_most| {
            let devices = [phone("one")];
            Gateways::default()
                .request(&message(text), &devices, at_most)
                .unwrap()
        };
        assert_eq!(
            request(&"x".repeat(60_000), Detail::Full).detail,
            Detail::Full
        );
        let less = request(&"x".repeat(70_000), Detail::Full);
        assert_eq!(less.detail, Detail::WithoutContent);
        assert!(less.body.len() < 1000);
        assert_eq!(request("x", Detail::Bare).detail, Detail::Bare);
    }

    #[test]
    fn only_pushkeys_that_were_asked_about_are_rejected() {
        let devices = [phone("one"), phone("two")];
        let read = |body: &str| Gateways::reading(&answer(200, &[], body), &devices, UNIX_EPOCH);
        let rejected = |keys: &[&str]| {
            let keys = keys.iter().map(|&key| key.to_owned()).collect();
            Reading::Done(Outcome::Rejected(keys))
        };
        assert_eq!(read(r#"{"rejected":[]}"#), Reading::accepted());
        assert_eq!(
            read(r#"{"rejected":["somebody else's"]}"#),
            Reading::accepted()
        );
        assert_eq!(
            read(r#"{"rejected":["two","two","x"]}"#),
            rejected(&["two"])
        );
        assert_eq!(
            read(r#"{"rejected":["two","one"]}"#),
            rejected(&["one", "two"])
        );
        assert_eq!(read("{}"), Reading::accepted());
        assert_eq!(read(r#"{"rejected":"two"}"#), Reading::accepted());
        assert_eq!(read("<html>"), Reading::accepted());
    }

    #[test]
    fn errors_are_tried_again_unless_the_request_is_wrong() {
        let read = |status, headers: &[_]| {
            let answer = answer(status, headers, r#"{"rejected":["one"]}"#);
            Gateways::default().read(&answer, &phone("one"), UNIX_EPOCH)
        };
        for status in [401, 403, 404, 408, 429, 500, 502, 503, 504] {
            assert_eq!(read(status, &[]), Reading::again(None, status.to_string()));
        }
        let minute = Some(Duration::from_mins(1));
        for status in [429, 503, 404] {
            let read = read(status, &[("retry-after", "60")]);
            assert_eq!(read, Reading::again(minute, status.to_string()));
        }
        for status in [301, 400, 405, 410, 411, 415, 422, 501] {
            assert_eq!(read(status, &[]), Reading::dropped(status.to_string()));
        }
        assert_eq!(read(413, &[]), Reading::TooLarge);
    }
}
