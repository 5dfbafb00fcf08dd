//! The account that sends, and its access token (RFC 7523).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::json;
use url::{Url, form_urlencoded};

use crate::detail::Detail;
use crate::endpoint;
use crate::error::{BuildError, ConfigError};
use crate::jwt::{Made, Rs256, unix};
use crate::message::{NamedBy, PushAnswer, PushRequest, secret};
use crate::outcome::{Outcome, Reading, reason};

/// What the token is for.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How long an assertion is valid.
const ASSERTION: Duration = Duration::from_hours(1);
/// The longest that a token is used, whatever is said of it.
const LONGEST: Duration = Duration::from_hours(1);
/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_mins(5);
/// A token of that age is a new one: another wouldn't be taken either.
const NEW: Duration = Duration::from_mins(1);
/// The most bytes of a token, and of what a file says of the account.
const MAX_TOKEN: usize = 8192;
const MAX_FIELD: usize = 255;

#[derive(Deserialize)]
struct File {
    project_id: String,
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: Option<String>,
    token_uri: String,
}

/// A service account.
pub(super) struct Account {
    project: String,
    email: String,
    key: Rs256,
    key_id: Option<String>,
    token_uri: Url,
    held: Mutex<Option<Held>>,
}

struct Held {
    made: Made<HeaderValue>,
    used: Duration,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    expires_in: u64,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

impl Account {
    pub(super) fn read(json: &[u8]) -> Result<Self, ConfigError> {
        let what = "the service account for FCM";
        // What serde would say of a mistake may quote the key.
        let file: File = serde_json::from_slice(json).map_err(|_| ConfigError::Value {
            what,
            why: "must be Google's JSON with project_id, client_email, private_key and token_uri",
        })?;
        let is_id = |id: &str| {
            (1..=MAX_FIELD).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let key_id = file.private_key_id.as_deref();
        if !is_id(&file.project_id) || !is_id(&file.client_email) || !key_id.is_none_or(is_id) {
            let why = "must name the project, the account and its key as one word each";
            return Err(ConfigError::Value { what, why });
        }
        Ok(Self {
            key: Rs256::read(what, file.private_key.as_bytes())?,
            project: file.project_id,
            email: file.client_email,
            key_id: file.private_key_id,
            token_uri: endpoint::check(
                "token_uri of the service account for FCM",
                &file.token_uri,
            )?,
            held: Mutex::default(),
        })
    }

    pub(super) fn project(&self) -> &str {
        &self.project
    }

    /// The `Authorization` header, if there is a token that is good.
    pub(super) fn authorization(&self, now: SystemTime) -> Option<HeaderValue> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.as_ref()?;
        held.made
            .is_younger(held.used, now)
            .then(|| held.made.token.clone())
    }

    /// Forgets a token that is refused, unless it is a new one; whether it was forgotten.
    pub(super) fn forget(&self, now: SystemTime) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.take_if(|held| !held.made.is_younger(NEW, now))
            .is_some()
    }

    /// Asks for a token.
    pub(super) fn token_request(&self, now: SystemTime) -> Result<PushRequest, BuildError> {
        let mut header = json!({ "alg": "RS256", "typ": "JWT" });
        if let Some(key_id) = &self.key_id {
            header["kid"] = key_id.as_str().into();
        }
        let claims = json!({
            "iss": self.email,
            "scope": SCOPE,
            "aud": self.token_uri.as_str(),
            "iat": unix(now),
            "exp": unix(now + ASSERTION),
        });
        let assertion = self.key.sign(&header, &claims)?;
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", GRANT)
            .append_pair("assertion", &assertion)
            .finish();
        let mut headers = HeaderMap::new();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form);
        Ok(PushRequest {
            method: Method::POST,
            url: self.token_uri.clone(),
            headers,
            body: body.into_bytes(),
            named_by: NamedBy::Operator,
            detail: Detail::Bare,
        })
    }

    /// Keeps the token that is answered. Whatever else is answered may be better another time: it says nothing of
    /// the notification.
    pub(super) fn read_token(&self, answer: &PushAnswer, now: SystemTime) -> Outcome {
        if answer.status.is_success() {
            let why = || format!("{} without a token", reason(answer.status, None));
            let Some((value, used)) = token(&answer.body) else {
                return Outcome::Again {
                    after: None,
                    why: why(),
                };
            };
            let made = Made::new(value, now);
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            *held = Some(Held { made, used });
            return Outcome::Accepted;
        }
        let refused: Option<Refused> = serde_json::from_slice(&answer.body).ok();
        let code = refused.as_ref().map(|refused| refused.error.as_str());
        let why = format!("token: {}", reason(answer.status, code));
        match Reading::of_status(answer, why.clone(), now) {
            Reading::Done(again @ Outcome::Again { .. }) => again,
            _ => Outcome::Again { after: None, why },
        }
    }
}

/// The header for a token, and how long it's good.
fn token(body: &[u8]) -> Option<(HeaderValue, Duration)> {
    let token: Token = serde_json::from_slice(body).ok()?;
    if token.access_token.is_empty() || token.access_token.len() > MAX_TOKEN {
        return None;
    }
    let value = secret(&format!("Bearer {}", token.access_token)).ok()?;
    let valid = Duration::from_secs(token.expires_in).min(LONGEST);
    // Of one that is short-lived half of the time, so that it's used at all.
    Some((value, valid.saturating_sub(MARGIN).max(valid / 2)))
}
