//! One identity server, as it is asked for users of ours.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use rhizome_protocol::hash;
use rhizome_storage::{Medium, ThirdParty};
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{bearer, json_headers};
use crate::{Federation, MatrixError, outbound::refusal, xmatrix::Signed};

/// How often a look-up is made again because the pepper has changed meanwhile.
const LOOKUPS: usize = 2;
/// The most public keys of an invitation.
const MAX_KEYS: usize = 8;
/// The most bytes of a key, of an address where its validity is told, and of a name.
const MAX_TEXT: usize = 255;
const MAX_URL: usize = 1024;
/// Codes of identity servers that clients know what to do about.
const CODES: [&str; 11] = [
    "M_EMAIL_SEND_ERROR",
    "M_FORBIDDEN",
    "M_INVALID_EMAIL",
    "M_INVALID_PARAM",
    "M_LIMIT_EXCEEDED",
    "M_NOT_FOUND",
    "M_NO_VALID_SESSION",
    "M_SESSION_EXPIRED",
    "M_SESSION_NOT_VALIDATED",
    "M_TERMS_NOT_SIGNED",
    "M_THREEPID_IN_USE",
];

/// An identity server.
pub struct IdentityServer {
    fed: Federation,
    name: OwnedServerName,
}

/// What an identity server is told of an invitation, for the letter that it writes.
#[derive(Debug, Clone, Serialize)]
pub struct Invitation {
    /// `email`.
    pub medium: &'static str,
    /// Who is invited.
    pub address: String,
    /// Whereto.
    pub room_id: String,
    /// By whom.
    pub sender: String,
    /// What the room is called, and so on: what there is of it.
    #[serde(flatten)]
    pub more: serde_json::Map<String, Value>,
}

/// What an identity server has made of an invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredInvite {
    /// What it is called in the room's state.
    pub token: String,
    /// By which keys it is said whose the address is; there is one.
    pub public_keys: Vec<PublicKey>,
    /// What the room may show of the address.
    pub display_name: String,
}

/// A key of an identity server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// In base64, in either alphabet.
    pub public_key: String,
    /// Where it is said whether it is still valid.
    pub key_validity_url: String,
}

#[derive(Deserialize)]
struct HashDetails {
    lookup_pepper: String,
    algorithms: Vec<String>,
}

#[derive(Deserialize)]
struct Mappings {
    mappings: std::collections::HashMap<String, String>,
}

#[derive(Deserialize)]
struct Stored {
    token: String,
    #[serde(default)]
    public_keys: Vec<PublicKey>,
    display_name: String,
}

#[derive(Deserialize)]
struct Bound {
    medium: String,
    address: String,
    mxid: String,
}

/// How a request says who it is.
enum Proof<'a> {
    /// By the token that the user has there.
    Token(&'a str),
    /// By our signature.
    Signed,
}

impl IdentityServer {
    pub(super) fn named(fed: &Federation, name: &str) -> Result<Self, MatrixError> {
        let parsed = OwnedServerName::try_from(name);
        let wrong =
            |_| MatrixError::invalid_param("id_server: a server's name, such as example.org");
        Ok(Self {
            fed: fed.clone(),
            name: parsed.map_err(wrong)?,
        })
    }

    /// Its name.
    pub fn name(&self) -> &ServerName {
        &self.name
    }

    /// Publishes that the identifier which was validated there in a session is a user's. Gives the identifier.
    ///
    /// # Errors
    /// What that server has against it; 502 if it can't be reached or answers something odd.
    pub async fn bind(
        &self,
        token: &str,
        (sid, client_secret): (&str, &str),
        user: &UserId,
    ) -> Result<Option<ThirdParty>, MatrixError> {
        let body = json!({ "sid": sid, "client_secret": client_secret, "mxid": user });
        let bound: Bound = self
            .ask(Method::POST, "3pid/bind", Proof::Token(token), Some(&body))
            .await?;
        if bound.mxid != user.as_str() {
            return Err(self.odd("it has bound somebody else"));
        }
        let medium = Medium::named(&bound.medium);
        Ok(medium.map(|medium| ThirdParty {
            medium,
            address: bound.address.chars().take(MAX_TEXT).collect(),
        }))
    }

    /// Takes back that an identifier is a user's: by our word, as we answer for our users.
    ///
    /// # Errors
    /// As of [`IdentityServer::bind`].
    pub async fn unbind(&self, third_party: &ThirdParty, user: &UserId) -> Result<(), MatrixError> {
        let body = json!({
            "mxid": user,
            "threepid": { "medium": third_party.medium.as_str(), "address": third_party.address },
        });
        self.ask::<Value>(Method::POST, "3pid/unbind", Proof::Signed, Some(&body))
            .await
            .map(drop)
    }

    /// Whose identifier it is, if that is known there. It is told a hash of it alone.
    ///
    /// # Errors
    /// As of [`IdentityServer::bind`].
    pub async fn lookup(
        &self,
        token: &str,
        third_party: &ThirdParty,
    ) -> Result<Option<OwnedUserId>, MatrixError> {
        let mut attempt = 1;
        loop {
            match self.lookup_once(token, third_party).await {
                // It was changed between both questions.
                Err(error) if error.errcode == "M_INVALID_PEPPER" && attempt < LOOKUPS => {
                    attempt += 1;
                }
                other => return other.map_err(for_clients),
            }
        }
    }

    async fn lookup_once(
        &self,
        token: &str,
        third_party: &ThirdParty,
    ) -> Result<Option<OwnedUserId>, MatrixError> {
        let details: HashDetails = self
            .ask_raw(Method::GET, "hash_details", &Proof::Token(token), None)
            .await?;
        // All have it; by the other the address itself would be told.
        if !details.algorithms.iter().any(|name| name == "sha256") {
            return Err(self.odd("it knows no sha256"));
        }
        let pepper = &details.lookup_pepper;
        let (address, medium) = (&third_party.address, third_party.medium.as_str());
        let asked = format!("{address} {medium} {pepper}");
        let asked = hash::to_url_base64(&hash::sha256(asked.as_bytes()));
        let body = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": [asked] });
        let found: Mappings = self
            .ask_raw(Method::POST, "lookup", &Proof::Token(token), Some(&body))
            .await?;
        let Some(user) = found.mappings.get(&asked) else {
            return Ok(None);
        };
        let user = OwnedUserId::try_from(user.as_str());
        user.map(Some)
            .map_err(|_| self.odd("it knows somebody whose id is none"))
    }

    /// Keeps an invitation until somebody shows that the address is theirs, and writes to the address.
    ///
    /// # Errors
    /// As of [`IdentityServer::bind`].
    pub async fn store_invite(
        &self,
        token: &str,
        invitation: &Invitation,
    ) -> Result<StoredInvite, MatrixError> {
        let body = serde_json::to_value(invitation).map_err(|_| MatrixError::internal())?;
        let stored: Stored = self
            .ask(
                Method::POST,
                "store-invite",
                Proof::Token(token),
                Some(&body),
            )
            .await?;
        let is_token = |c: char| c.is_ascii_alphanumeric() || ".=_-".contains(c);
        if stored.token.is_empty()
            || stored.token.len() > MAX_TEXT
            || !stored.token.chars().all(is_token)
        {
            return Err(self.odd("its token is none"));
        }
        let is_key = |key: &PublicKey| {
            key.public_key.len() <= MAX_TEXT
                && key.key_validity_url.len() <= MAX_URL
                && key.key_validity_url.starts_with("https://")
        };
        let keys = stored.public_keys;
        if keys.is_empty() || keys.len() > MAX_KEYS || !keys.iter().all(is_key) {
            return Err(self.odd("its keys are none"));
        }
        Ok(StoredInvite {
            token: stored.token,
            public_keys: keys,
            display_name: stored.display_name.chars().take(MAX_TEXT).collect(),
        })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        what: &str,
        proof: Proof<'_>,
        body: Option<&Value>,
    ) -> Result<T, MatrixError> {
        let answer = self.ask_raw(method, what, &proof, body).await;
        answer.map_err(for_clients)
    }

    /// One request. An error is what that server says, with the status that it has there.
    async fn ask_raw<T: DeserializeOwned>(
        &self,
        method: Method,
        what: &str,
        proof: &Proof<'_>,
        body: Option<&Value>,
    ) -> Result<T, MatrixError> {
        let target = format!("/_matrix/identity/v2/{what}");
        let body = body.map(ToString::to_string).unwrap_or_default();
        let headers = self.headers(&method, &target, proof, body.as_bytes())?;
        let url = Url::parse(&format!("https://{}{target}", self.name));
        let url = url.map_err(|_| MatrixError::invalid_param("id_server is no host"))?;
        let asked = self
            .fed
            .bring_to_users((method, url), headers, body.into_bytes());
        let answer = asked.await.map_err(|error| {
            // What is wrong with the connection may tell of our network.
            tracing::debug!(server = %self.name, %error, "an identity server isn't reached");
            MatrixError::bad_gateway("The identity server can't be reached")
        })?;
        if answer.status != StatusCode::OK {
            return Err(refusal::read(answer.status, &answer.headers, &answer.body));
        }
        serde_json::from_slice(&answer.body).map_err(|_| self.odd("it isn't of the specified form"))
    }

    fn headers(
        &self,
        method: &Method,
        target: &str,
        proof: &Proof<'_>,
        body: &[u8],
    ) -> Result<HeaderMap, MatrixError> {
        let mut headers = json_headers();
        let value = match proof {
            Proof::Token(token) => bearer(token)
                .map_err(|_| MatrixError::invalid_param("id_access_token is no token"))?,
            Proof::Signed => {
                let unusable = |_| MatrixError::internal();
                let signed = Signed::new(method.as_str(), target, body).map_err(unusable)?;
                let (ours, key) = (self.fed.server_name(), self.fed.signing_key());
                let header = signed.header(ours, &self.name, key);
                HeaderValue::from_str(&header).map_err(|_| MatrixError::internal())?
            }
        };
        headers.insert(header::AUTHORIZATION, value);
        Ok(headers)
    }

    fn odd(&self, what: &str) -> MatrixError {
        tracing::debug!(server = %self.name, what, "an identity server answers something odd");
        MatrixError::bad_gateway(format!("The identity server's answer is of no use: {what}"))
    }
}

/// What a client is told. That its token isn't good there says nothing of the one that it has here.
fn for_clients(error: MatrixError) -> MatrixError {
    if error.status == StatusCode::BAD_GATEWAY {
        return error;
    }
    let message = format!("The identity server: {}", error.message);
    match error.status.as_u16() {
        401 => MatrixError::forbidden(message),
        429 => {
            let wait = error.extra.get("retry_after_ms").and_then(Value::as_u64);
            MatrixError::limit_exceeded(wait.unwrap_or(5_000).min(3_600_000))
        }
        400..=499 => {
            let known = CODES.contains(&&*error.errcode);
            let code = if known {
                error.errcode
            } else {
                "M_UNKNOWN".into()
            };
            MatrixError::new(error.status, code, message)
        }
        _ => MatrixError::bad_gateway(message),
    }
}

/// The query of a question whether a key is valid.
pub(super) fn query_of_key(key: &str) -> String {
    format!("public_key={}", utf8_percent_encode(key, NON_ALPHANUMERIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_arent_logged_out_by_an_identity_server() {
        let of = |status: u16, code: &'static str| {
            let status = StatusCode::from_u16(status).unwrap();
            let told = for_clients(MatrixError::new(status, code, "x"));
            (told.status.as_u16(), told.errcode.into_owned())
        };
        assert_eq!(of(401, "M_UNKNOWN_TOKEN"), (403, "M_FORBIDDEN".into()));
        assert_eq!(of(401, "M_UNAUTHORIZED"), (403, "M_FORBIDDEN".into()));
        assert_eq!(
            of(403, "M_TERMS_NOT_SIGNED"),
            (403, "M_TERMS_NOT_SIGNED".into())
        );
        assert_eq!(of(403, "M_CONSENT_NOT_GIVEN"), (403, "M_UNKNOWN".into()));
        assert_eq!(of(500, "M_UNKNOWN").0, 502);
        assert_eq!(of(302, "M_UNKNOWN").0, 502);
        assert_eq!(of(429, "M_LIMIT_EXCEEDED").0, 429);
    }
}
