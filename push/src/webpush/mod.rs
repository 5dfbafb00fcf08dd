//! Pushers of kind `webpush` (MSC4174): push services of browsers and of UnifiedPush, which learn nothing of what they
//! carry (RFC 8030, 8188, 8291, 8292).

mod encrypt;
mod subscription;
mod vapid;

use std::fmt;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Method, header};
use ring::hmac;
use ring::rand::SystemRandom;
use serde_json::json;

use crate::body;
use crate::channel::{Channel, Step};
use crate::detail::{Detail, fit};
use crate::error::{BuildError, ConfigError, PusherError};
use crate::jwt::Es256;
use crate::message::{NamedBy, PushAnswer, PushRequest};
use crate::notification::{Device, LIFETIME, Notification, Prio};
use crate::outcome::{Reading, reason};
use crate::pusher::{self, Schemes};
use encrypt::{MAX_PLAINTEXT, encrypt};
use subscription::Subscription;
use vapid::Vapid;

/// What of a pusher's data stays here.
const HIDDEN: [&str; 2] = ["url", "auth"];
/// Messages are filled up to a multiple of this.
const PADDING: usize = 256;
/// The characters of a topic, at most 32.
const TOPIC: usize = 32;

/// Push services, each named by its pusher.
pub struct WebPush {
    vapid: Vapid,
    schemes: Schemes,
    random: SystemRandom,
}

impl WebPush {
    /// Push services at addresses of these schemes, to which this server says who it is by a P-256 key (PKCS#8, PEM or
    /// DER) and how its operator is reached by a `mailto:` or `https:` URL. The key has to stay the same: subscriptions
    /// hang on it.
    pub fn new(pkcs8: &[u8], contact: &str, schemes: Schemes) -> Result<Self, ConfigError> {
        Ok(Self {
            vapid: Vapid::new(pkcs8, contact)?,
            schemes,
            random: SystemRandom::new(),
        })
    }

    /// A new key in PKCS#8, DER: to be kept, and as secret as other keys.
    pub fn generate_key() -> Result<Vec<u8>, BuildError> {
        Es256::generate()
    }

    /// The public key, which clients need to subscribe: `vapid` of the capability `m.webpush`.
    pub fn public_key(&self) -> &str {
        self.vapid.public_key()
    }

    /// The message that asks a new pusher to say that it's there: its client gives the `ack_token` back. What is
    /// answered is read as for a notification.
    pub fn activation(
        &self,
        device: &Device,
        ack_token: &str,
        now: SystemTime,
    ) -> Result<PushRequest, BuildError> {
        let text = json!({ "app_id": device.app_id, "ack_token": ack_token }).to_string();
        if text.len() > MAX_PLAINTEXT {
            return Err(BuildError::TooLarge);
        }
        self.request(device, text.as_bytes(), Prio::High, Detail::Full, now)
    }

    fn request(
        &self,
        device: &Device,
        plaintext: &[u8],
        prio: Prio,
        detail: Detail,
        now: SystemTime,
    ) -> Result<PushRequest, BuildError> {
        let to = Subscription::read(device, self.schemes)?;
        let body = encrypt(&self.random, &to.public, &to.auth, plaintext, PADDING)?;
        let mut headers = HeaderMap::new();
        let mut fixed = |name, value| headers.insert(name, HeaderValue::from_static(value));
        fixed(header::CONTENT_TYPE, "application/octet-stream");
        fixed(header::CONTENT_ENCODING, "aes128gcm");
        let urgency = match prio {
            Prio::High => "high",
            Prio::Low => "normal",
        };
        fixed(http::HeaderName::from_static("urgency"), urgency);
        headers.insert("ttl", LIFETIME.as_secs().into());
        let authorization = self.vapid.authorization(&to.url, now)?;
        headers.insert(header::AUTHORIZATION, authorization);
        Ok(PushRequest {
            method: Method::POST,
            url: to.url,
            headers,
            body,
            named_by: NamedBy::User,
            detail,
        })
    }
}

/// What a newer message takes the place of, if the device was out of reach: counts, and what may be replaced in a room.
/// Push services see it, so it says nothing without the subscriber's secret.
fn topic(notification: &Notification, device: &Device) -> Option<String> {
    let about = match &notification.event {
        None => "counts",
        Some(event) if event.replaceable => event.room_id.as_str(),
        Some(_) => return None,
    };
    let secret = device.text("auth").unwrap_or_default();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut topic = URL_SAFE_NO_PAD.encode(hmac::sign(&key, about.as_bytes()));
    topic.truncate(TOPIC);
    Some(topic)
}

impl Channel for WebPush {
    fn check(&self, device: &Device) -> Result<(), PusherError> {
        pusher::check(device)?;
        Subscription::read(device, self.schemes)?.check(&self.random)
    }

    fn next(
        &self,
        notification: &Notification,
        device: &Device,
        at_most: Detail,
        now: SystemTime,
    ) -> Result<Step, BuildError> {
        let wanted = Detail::private(device, notification.event.as_ref()).min(at_most);
        let devices = std::slice::from_ref(device);
        let (detail, text) = fit(wanted, MAX_PLAINTEXT, |detail| {
            body::write(notification, devices, detail, &HIDDEN)
        })?;
        let mut request = self.request(device, &text, notification.prio, detail, now)?;
        if let Some(topic) = topic(notification, device) {
            let topic = HeaderValue::from_str(&topic).map_err(|_| BuildError::Unwritable)?;
            request.headers.insert("topic", topic);
        }
        Ok(Step::Send(request))
    }

    /// 404 and 410 say that the subscription is gone; so does 403, by MSC4174, unless it's an old token of ours that
    /// is refused.
    fn read(&self, answer: &PushAnswer, device: &Device, now: SystemTime) -> Reading {
        let why = reason(answer.status, None);
        let forgotten = || {
            let url = pusher::url(device, self.schemes);
            url.is_ok_and(|url| self.vapid.forget(&url, now))
        };
        match answer.status.as_u16() {
            401 | 403 if forgotten() => Reading::Renew,
            403 | 404 | 410 => Reading::rejected(&device.pushkey),
            401 => Reading::again(None, why),
            _ => Reading::of_status(answer, why, now),
        }
    }
}

impl fmt::Debug for WebPush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebPush")
            .field("vapid", &self.vapid)
            .field("schemes", &self.schemes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
