//! Apple's push service, spoken to without a gateway
//! (<https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns>).
//! It speaks HTTP/2 alone.

mod payload;
mod token;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use ring::digest;
use serde::Deserialize;
use url::Url;

use crate::channel::{Channel, Step};
use crate::detail::{Detail, fit};
use crate::endpoint;
use crate::error::{BuildError, ConfigError, PusherError};
use crate::jwt::unix;
use crate::message::{NamedBy, PushAnswer, PushRequest};
use crate::notification::{Device, LIFETIME, Notification, Prio};
use crate::outcome::{Reading, reason};
use crate::{pusher, shown};
use token::ProviderTokens;

/// The most bytes of a payload.
const MAX_PAYLOAD: usize = 4096;
/// The bytes of a device's token: 32 today, but it may be more.
const TOKEN: std::ops::RangeInclusive<usize> = 32..=100;
/// The most bytes of a topic.
const MAX_TOPIC: usize = 255;

/// What the operator sets for Apple's push service.
pub struct ApnsConfig {
    /// The signing key, as Apple gives it: a `.p8` file, PEM.
    pub key: Vec<u8>,
    /// The key's id.
    pub key_id: String,
    /// The id of the team that it belongs to.
    pub team_id: String,
    /// By the `app_id` of pushers the topic of the app, mostly its bundle's id.
    pub topics: BTreeMap<String, String>,
    /// Where the service is: [`Self::PRODUCTION`], [`Self::SANDBOX`], or another.
    pub endpoint: String,
    /// The key of the app's own text for "there is something new", where the client names none.
    pub loc_key: String,
}

impl ApnsConfig {
    /// For apps from the store.
    pub const PRODUCTION: &str = "https://api.push.apple.com";
    /// For apps in development.
    pub const SANDBOX: &str = "https://api.sandbox.push.apple.com";
}

/// A key for Apple's push service, and the apps that it's for.
pub struct Apns {
    tokens: ProviderTokens,
    topics: BTreeMap<String, HeaderValue>,
    endpoint: Url,
    loc_key: String,
}

#[derive(Deserialize)]
struct Answer {
    reason: String,
    /// Since when the token is known to be gone, in ms.
    timestamp: Option<u64>,
}

impl Apns {
    /// Reads the settings.
    pub fn new(config: ApnsConfig) -> Result<Self, ConfigError> {
        let mut topics = BTreeMap::new();
        for (app_id, topic) in config.topics {
            let value = HeaderValue::from_str(&topic).ok();
            let value = value.filter(|_| !topic.is_empty() && topic.len() <= MAX_TOPIC);
            let value = value.ok_or(ConfigError::Value {
                what: "a topic of APNs",
                why: "must be the id of an app's bundle",
            })?;
            topics.insert(app_id, value);
        }
        Ok(Self {
            tokens: ProviderTokens::new(&config.key, &config.key_id, &config.team_id)?,
            topics,
            endpoint: endpoint::check("the endpoint of APNs", &config.endpoint)?,
            loc_key: config.loc_key,
        })
    }

    fn topic(&self, device: &Device) -> Result<HeaderValue, PusherError> {
        let topic = self.topics.get(&device.app_id).cloned();
        topic.ok_or(PusherError::Invalid {
            field: "app_id",
            why: "is of no app that this server sends to",
        })
    }
}

/// The device's token in hexadecimal. Pushkeys are that, or Base64, as clients have always given it to gateways.
fn device_token(pushkey: &str) -> Result<String, PusherError> {
    let hex = pushkey.len() >= 2 * TOKEN.start()
        && pushkey.len().is_multiple_of(2)
        && pushkey.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex && pushkey.len() <= 2 * TOKEN.end() {
        return Ok(pushkey.to_ascii_lowercase());
    }
    let bytes = endpoint::BASE64.decode(pushkey.replace('-', "+").replace('_', "/"));
    let bytes = bytes.ok().filter(|bytes| TOKEN.contains(&bytes.len()));
    let bytes = bytes.ok_or(PusherError::Invalid {
        field: "pushkey",
        why: "must be a device's token in Base64 or hexadecimal",
    })?;
    Ok(bytes
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")))
}

impl Channel for Apns {
    fn check(&self, device: &Device) -> Result<(), PusherError> {
        pusher::check(device)?;
        self.topic(device)?;
        device_token(&device.pushkey).map(|_| ())
    }

    fn next(
        &self,
        notification: &Notification,
        device: &Device,
        at_most: Detail,
        now: SystemTime,
    ) -> Result<Step, BuildError> {
        let topic = self.topic(device)?;
        let url = endpoint::join(
            &self.endpoint,
            &["3", "device", &device_token(&device.pushkey)?],
        );
        let wanted = shown::wanted(notification, device).min(at_most);
        let (detail, payload) = fit(wanted, MAX_PAYLOAD, |detail| {
            payload::write(notification, device, detail, &self.loc_key)
        })?;
        let mut request = PushRequest::json(url, payload, NamedBy::Operator, detail);
        let headers = &mut request.headers;
        headers.insert("authorization", self.tokens.authorization(now)?);
        headers.insert("apns-topic", topic);
        headers.insert("apns-push-type", HeaderValue::from_static("alert"));
        let priority = match notification.prio {
            Prio::High => "10",
            Prio::Low => "5",
        };
        headers.insert("apns-priority", HeaderValue::from_static(priority));
        headers.insert("apns-expiration", unix(now + LIFETIME).into());
        if let Some(event) = &notification.event {
            // An event that comes twice, as nobody knows whether the first came, is shown once.
            let hash = digest::digest(&digest::SHA256, event.event_id.as_bytes());
            let id = HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(hash));
            headers.insert("apns-collapse-id", id.map_err(|_| BuildError::Unwritable)?);
        }
        Ok(Step::Send(request))
    }

    fn read(&self, answer: &PushAnswer, device: &Device, now: SystemTime) -> Reading {
        let body: Option<Answer> = serde_json::from_slice(&answer.body).ok();
        let code = body.as_ref().map(|body| body.reason.as_str());
        let why = reason(answer.status, code);
        match (answer.status.as_u16(), code) {
            (410, _) => {
                // Gone since before the app gave this pushkey once more: it isn't gone.
                let since = body.and_then(|body| body.timestamp).unwrap_or(u64::MAX);
                if since / 1000 < device.pushkey_ts {
                    return Reading::dropped(why);
                }
                Reading::rejected(&device.pushkey)
            }
            (400, Some("BadDeviceToken" | "DeviceTokenNotForTopic")) => {
                Reading::rejected(&device.pushkey)
            }
            (403, Some("ExpiredProviderToken")) if self.tokens.forget(now) => Reading::Renew,
            // It's the operator's key or its settings: they may get it right within a day.
            (403, code) if code != Some("Forbidden") => Reading::again(None, why),
            // A token may be renewed every 20 minutes.
            (429, Some("TooManyProviderTokenUpdates")) => {
                Reading::again(Some(Duration::from_mins(20)), why)
            }
            _ => Reading::of_status(answer, why, now),
        }
    }
}

impl fmt::Debug for Apns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Apns")
            .field("endpoint", &self.endpoint.as_str())
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
