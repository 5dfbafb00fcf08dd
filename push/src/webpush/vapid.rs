//! Who sends: a token for each push service, signed with this server's key (RFC 8292).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde_json::json;
use url::Url;

use crate::error::{BuildError, ConfigError};
use crate::jwt::{Es256, Made, unix};
use crate::message::secret;

/// How long a token is valid; a day at most.
const VALID: Duration = Duration::from_hours(12);
/// How long it is used: push services remember what they have checked, and clocks differ.
const USED: Duration = Duration::from_hours(11);
/// Tokens that are kept. Users name push services, so there may be any number of them.
const MAX_KEPT: usize = 1024;
/// A token of that age is a new one: another wouldn't be taken either.
const NEW: Duration = Duration::from_mins(1);
/// The most bytes of a contact.
const MAX_CONTACT: usize = 255;

/// The key that says who sends, and the tokens made with it.
pub(crate) struct Vapid {
    key: Es256,
    public: String,
    contact: String,
    kept: Mutex<HashMap<String, Made<HeaderValue>>>,
}

impl Vapid {
    pub(crate) fn new(pkcs8: &[u8], contact: &str) -> Result<Self, ConfigError> {
        let is_contact = |url: Url| match url.scheme() {
            "mailto" => url.path().contains('@'),
            scheme => scheme == "https",
        };
        if contact.len() > MAX_CONTACT || !Url::parse(contact).is_ok_and(is_contact) {
            return Err(ConfigError::Value {
                what: "the contact for push services",
                why: "must be like mailto:admin@example.org or https://example.org/contact",
            });
        }
        let key = Es256::read("the key for Web Push", pkcs8)?;
        Ok(Self {
            public: URL_SAFE_NO_PAD.encode(key.public()),
            key,
            contact: contact.to_owned(),
            kept: Mutex::default(),
        })
    }

    /// The public key, uncompressed, in URL-safe Base64 without padding.
    pub(crate) fn public_key(&self) -> &str {
        &self.public
    }

    /// The `Authorization` header for a push service: the same as before, as long as that is good.
    pub(crate) fn authorization(
        &self,
        endpoint: &Url,
        now: SystemTime,
    ) -> Result<HeaderValue, BuildError> {
        let origin = endpoint.origin().ascii_serialization();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = kept.get(&origin).filter(|made| made.is_younger(USED, now)) {
            return Ok(made.token.clone());
        }
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, made| made.is_younger(USED, now));
        }
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        let header = json!({ "typ": "JWT", "alg": "ES256" });
        let claims = json!({ "aud": origin, "exp": unix(now + VALID), "sub": self.contact });
        let token = self.key.sign(&header, &claims)?;
        let value = secret(&format!("vapid t={token}, k={}", self.public));
        let value = value.map_err(|_| BuildError::Unwritable)?;
        kept.insert(origin, Made::new(value.clone(), now));
        Ok(value)
    }

    /// Forgets the token for a push service that refuses it, unless it is a new one; whether it was forgotten.
    pub(crate) fn forget(&self, endpoint: &Url, now: SystemTime) -> bool {
        let origin = endpoint.origin().ascii_serialization();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let old = kept
            .get(&origin)
            .is_some_and(|made| !made.is_younger(NEW, now));
        if old {
            kept.remove(&origin);
        }
        old
    }
}

impl fmt::Debug for Vapid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vapid")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn vapid() -> Vapid {
        Vapid::new(&Es256::generate().unwrap(), "mailto:admin@example.org").unwrap()
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn one_token_serves_a_push_service_for_half_a_day() {
        let vapid = vapid();
        let token = |at: &str, minutes| {
            let now = UNIX_EPOCH + Duration::from_mins(minutes);
            vapid.authorization(&url(at), now).unwrap()
        };
        let first = token("https://push.example.org/one", 10_000);
        assert!(first.is_sensitive());
        assert_eq!(
            token("https://push.example.org:443/two", 10_000 + 659),
            first
        );
        assert_ne!(token("https://push.example.org:444/two", 10_000), first);
        assert_ne!(token("https://push.example.org/one", 10_000 + 660), first);
    }

    #[test]
    fn a_token_that_is_refused_is_forgotten_once() {
        let vapid = vapid();
        let endpoint = url("https://push.example.org/one");
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!vapid.forget(&endpoint, at(100)));
        let first = vapid.authorization(&endpoint, at(100)).unwrap();
        assert!(!vapid.forget(&endpoint, at(159)));
        assert!(vapid.forget(&endpoint, at(160)));
        assert_ne!(vapid.authorization(&endpoint, at(160)).unwrap(), first);
        assert!(!vapid.forget(&endpoint, at(161)));
    }

    #[test]
    fn tokens_of_any_number_of_services_take_bounded_room() {
        let vapid = vapid();
        for number in 0..MAX_KEPT + 10 {
            let endpoint = url(&format!("https://push{number}.example.org/"));
            vapid.authorization(&endpoint, UNIX_EPOCH).unwrap();
            assert!(vapid.kept.lock().unwrap().len() <= MAX_KEPT);
        }
    }

    #[test]
    fn a_contact_is_an_address() {
        let key = Es256::generate().unwrap();
        for good in ["mailto:admin@example.org", "https://example.org/contact"] {
            assert!(Vapid::new(&key, good).is_ok(), "{good}");
        }
        let long = format!("mailto:{}@example.org", "a".repeat(300));
        for bad in [
            "",
            "admin@example.org",
            "mailto:admin",
            "http://example.org/",
            &long,
        ] {
            assert!(Vapid::new(&key, bad).is_err(), "{bad}");
        }
    }
}
