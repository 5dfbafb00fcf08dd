//! The token that says whose app it is.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use serde_json::json;

use crate::error::{BuildError, ConfigError};
use crate::jwt::{Es256, Made, unix};
use crate::message::secret;

/// How long a token is used. Apple wants no newer one for 20 minutes, and takes none that is older than 60.
const USED: Duration = Duration::from_mins(40);
const LEAST: Duration = Duration::from_mins(20);
/// The most characters of an id; Apple's have ten.
const MAX_ID: usize = 32;

/// A signing key, and the token made with it.
pub(super) struct ProviderTokens {
    key: Es256,
    key_id: String,
    team_id: String,
    made: Mutex<Option<Made<HeaderValue>>>,
}

impl ProviderTokens {
    pub(super) fn new(p8: &[u8], key_id: &str, team_id: &str) -> Result<Self, ConfigError> {
        let is_id = |id: &str| {
            (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        for (what, id) in [
            ("the id of the key for APNs", key_id),
            ("the id of the team for APNs", team_id),
        ] {
            if !is_id(id) {
                let why = "must be ten letters and digits";
                return Err(ConfigError::Value { what, why });
            }
        }
        Ok(Self {
            key: Es256::read("the key for APNs", p8)?,
            key_id: key_id.to_owned(),
            team_id: team_id.to_owned(),
            made: Mutex::default(),
        })
    }

    /// The `Authorization` header.
    pub(super) fn authorization(&self, now: SystemTime) -> Result<HeaderValue, BuildError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.as_ref().filter(|made| made.is_younger(USED, now)) {
            return Ok(made.token.clone());
        }
        let header = json!({ "alg": "ES256", "kid": self.key_id });
        let claims = json!({ "iss": self.team_id, "iat": unix(now) });
        let token = self.key.sign(&header, &claims)?;
        let value = secret(&format!("bearer {token}")).map_err(|_| BuildError::Unwritable)?;
        *made = Some(Made::new(value.clone(), now));
        Ok(value)
    }

    /// Forgets the token, if it may be renewed already; whether it was forgotten.
    pub(super) fn forget(&self, now: SystemTime) -> bool {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.take_if(|made| !made.is_younger(LEAST, now)).is_some()
    }
}
