//! Pushers of kind `http` whose gateway is this server itself: their pushkey is an endpoint of
//! [UnifiedPush](https://unifiedpush.org/developers/spec/server/), to which the notification goes as a gateway would bring
//! it. Apps find out by a GET of the gateway's address that it does that.

use std::slice;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use url::Url;

use crate::body;
use crate::channel::{Channel, Step};
use crate::detail::{Detail, fit};
use crate::error::{BuildError, PusherError};
use crate::message::{NamedBy, PushAnswer, PushRequest};
use crate::notification::{Device, Notification};
use crate::outcome::{Reading, reason};
use crate::pusher::{self, Schemes};

/// The most bytes of a message.
const MAX_BODY: usize = 4096;
/// How long a message waits for its device.
const LIFETIME: Duration = Duration::from_hours(24);
/// What of a pusher's data stays here.
const HIDDEN: [&str; 1] = ["url"];

/// Endpoints of UnifiedPush, each named by its pusher.
#[derive(Debug, Clone)]
pub struct UnifiedPush {
    own: Url,
    schemes: Schemes,
}

impl UnifiedPush {
    /// What a GET of a gateway's address says if it brings notifications to such endpoints.
    pub const DISCOVERY: &str = r#"{"unifiedpush":{"gateway":"matrix"}}"#;

    /// For pushers that name `own` as their gateway; their endpoints have addresses of these schemes.
    pub fn new(own: Url, schemes: Schemes) -> Self {
        Self { own, schemes }
    }

    /// Whether a pusher is meant for it.
    pub fn is_named_by(&self, device: &Device) -> bool {
        let url = pusher::url(device, Schemes::Any);
        url.is_ok_and(|url| url.origin() == self.own.origin() && url.path() == self.own.path())
    }

    fn endpoint(&self, device: &Device) -> Result<Url, PusherError> {
        pusher::address("pushkey", &device.pushkey, self.schemes)
    }
}

impl Channel for UnifiedPush {
    fn check(&self, device: &Device) -> Result<(), PusherError> {
        pusher::check(device)?;
        self.endpoint(device).map(|_| ())
    }

    fn next(
        &self,
        notification: &Notification,
        device: &Device,
        at_most: Detail,
        _now: SystemTime,
    ) -> Result<Step, BuildError> {
        let endpoint = self.endpoint(device)?;
        let wanted = Detail::private(device, notification.event.as_ref()).min(at_most);
        let (detail, body) = fit(wanted, MAX_BODY, |detail| {
            body::write(notification, slice::from_ref(device), detail, &HIDDEN)
        })?;
        let mut request = PushRequest::json(endpoint, body, NamedBy::User, detail);
        let ttl = HeaderValue::from(LIFETIME.as_secs());
        request.headers.insert(HeaderName::from_static("ttl"), ttl);
        Ok(Step::Send(request))
    }

    /// 404 and 410 say that the endpoint is gone.
    fn read(&self, answer: &PushAnswer, device: &Device, now: SystemTime) -> Reading {
        let why = reason(answer.status, None);
        match answer.status.as_u16() {
            404 | 410 => Reading::rejected(&device.pushkey),
            401 | 403 => Reading::again(None, why),
            _ => Reading::of_status(answer, why, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{answer, device, encrypted, message};

    const OWN: &str = "https://matrix.example.org/_matrix/push/v1/notify";

    fn unified() -> UnifiedPush {
        UnifiedPush::new(Url::parse(OWN).unwrap(), Schemes::Https)
    }

    fn phone(endpoint: &str) -> Device {
        device(endpoint, &json!({ "url": OWN }))
    }

    fn sent(notification: &Notification) -> PushRequest {
        let phone = phone("https://ntfy.example.org/upABC?up=1");
        match unified().next(notification, &phone, Detail::Full, UNIX_EPOCH) {
            Ok(Step::Send(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_notification_goes_to_the_endpoint_as_a_gateway_would_bring_it() {
        let request = sent(&message("hello"));
        assert_eq!(request.url.as_str(), "https://ntfy.example.org/upABC?up=1");
        assert_eq!(request.named_by, NamedBy::User);
        assert_eq!(request.headers["ttl"], "86400");
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["notification"]["content"]["body"], "hello");
    }

    #[test]
    fn what_is_encrypted_or_too_large_stays_here() {
        for told in [encrypted(), message(&"x".repeat(5000))] {
            let request = sent(&told);
            assert!(request.body.len() <= MAX_BODY);
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            assert_eq!(body["notification"].get("content"), None);
        }
    }

    #[test]
    fn endpoints_are_addresses_of_the_web() {
        let check = |endpoint: &str| unified().check(&phone(endpoint)).is_ok();
        assert!(check("https://ntfy.example.org/up"));
        for bad in [
            "http://ntfy.example.org/up",
            "file:///etc/passwd",
            "key",
            "https://a@b.example/",
        ] {
            assert!(!check(bad), "{bad}");
        }
    }

    #[test]
    fn only_who_names_this_server_is_meant() {
        let named = |url: &str| unified().is_named_by(&device("k", &json!({ "url": url })));
        assert!(named(OWN) && named(&format!("{OWN}?x")));
        assert!(!named("https://other.example.org/_matrix/push/v1/notify"));
        assert!(!named("http://matrix.example.org/_matrix/push/v1/notify"));
    }

    #[test]
    fn an_endpoint_that_is_gone_takes_its_pusher_along() {
        let phone = phone("https://ntfy.example.org/up");
        let read = |status| unified().read(&answer(status, &[], ""), &phone, UNIX_EPOCH);
        for status in [200, 201, 202] {
            assert_eq!(read(status), Reading::accepted());
        }
        for status in [404, 410] {
            assert_eq!(read(status), Reading::rejected(&phone.pushkey));
        }
        assert_eq!(read(413), Reading::TooLarge);
        assert_eq!(read(503), Reading::again(None, "503".to_owned()));
    }
}
