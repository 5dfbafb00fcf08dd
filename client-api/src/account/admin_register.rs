//! `/_synapse/admin/v1/register`: accounts for whoever knows the shared secret, in the form that
//! tools already speak. The secret proves itself by an HMAC over a nonce of ours, which serves once.

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{Body, MatrixError, RawJson, Undecoded};
use rhizome_storage::{Admission, NewUiaSession, random};
use ring::hmac;
use ruma::{api::auth_scheme::NoAuthentication, metadata};
use serde::Deserialize;
use serde_json::json;

use crate::{
    App, Ruma,
    account::{profile::fields, users},
    auth::{
        password::Turn,
        session::{self, SessionRequest},
        uia,
    },
};

/// How long a nonce is good for, in milliseconds.
const LIFETIME_MS: i64 = 60 * 1000;
/// Stands before a nonce among the sessions of the database.
const PURPOSE: &str = "admin registration";

/// `GET`: asks for a nonce.
pub struct GetNonce;
metadata! {
    @for GetNonce,
    method: GET,
    rate_limited: true,
    authentication: NoAuthentication,
    path: "/_synapse/admin/v1/register",
}

/// `POST`: makes an account. The body is [`NewUser`].
pub struct PostUser;
metadata! {
    @for PostUser,
    method: POST,
    rate_limited: true,
    authentication: NoAuthentication,
    path: "/_synapse/admin/v1/register",
}

/// The account to be made.
#[derive(Deserialize)]
pub struct NewUser {
    nonce: String,
    username: String,
    password: String,
    #[serde(default)]
    displayname: Option<String>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    user_type: Option<String>,
    mac: String,
}

/// `GET /_synapse/admin/v1/register`
pub async fn nonce(
    State(app): State<App>,
    Ruma { peer, .. }: Ruma<Undecoded<GetNonce>>,
) -> Result<RawJson, MatrixError> {
    secret_of(&app)?;
    let nonce = random::secret()?;
    let now = app.store.clock().now_ms();
    let new = NewUiaSession {
        id: &nonce,
        purpose: PURPOSE,
        peer: &uia::block(peer),
        now_ms: now,
        expires_ms: now + LIFETIME_MS,
    };
    app.store.begin_uia_session(new).await?;
    RawJson::of(&json!({ "nonce": nonce }))
}

/// `POST /_synapse/admin/v1/register`
pub async fn register(
    State(app): State<App>,
    Ruma { req, peer, .. }: Ruma<Body<PostUser, NewUser>>,
) -> Result<RawJson, MatrixError> {
    let secret = secret_of(&app)?;
    let user = req.body;
    let now = app.store.clock().now_ms();
    let nonce = app.store.uia_session(&user.nonce, now).await?;
    let is_nonce = nonce.is_some_and(|nonce| nonce.purpose == PURPOSE);
    if !is_nonce || !app.store.end_uia_session(&user.nonce).await? {
        return Err(refused(
            StatusCode::BAD_REQUEST,
            "The nonce is unknown or was used",
        ));
    }
    if !proves(secret, &user) {
        return Err(MatrixError::forbidden("The HMAC is wrong"));
    }
    let user_id = users::user_id(&app.config.server_name, &user.username)?;
    users::require_nobodys(&app, &user_id)?;
    let first = Some((
        SessionRequest {
            by_password: true,
            ..SessionRequest::default()
        },
        peer,
    ));
    let new = users::New {
        user_id: &user_id,
        password: Some(&user.password),
        admin: user.admin,
        third_parties: Vec::new(),
        // Who knows the secret is the operator.
        admission: Admission::default(),
        turn: Turn::FIRST,
    };
    let session = users::register(&app, new, first).await?;
    if let Some(name) = user.displayname {
        // In no room yet, so that there is none to tell.
        let user = app.store.user_no(&user_id).await?;
        fields::write(&app, user, "displayname", Some(name.into())).await?;
    }
    RawJson::of(&session::answer(&app, &user_id, session))
}

fn secret_of(app: &App) -> Result<&str, MatrixError> {
    app.config
        .registration_shared_secret
        .as_deref()
        .ok_or_else(|| {
            refused(
                StatusCode::BAD_REQUEST,
                "Registration by shared secret isn't enabled",
            )
        })
}

fn refused(status: StatusCode, message: &str) -> MatrixError {
    MatrixError::new(status, "M_UNKNOWN", message)
}

/// HMAC-SHA1 of nonce, name, password, role and, if there is one, type, with NUL between them.
/// Compared in constant time.
fn proves(secret: &str, user: &NewUser) -> bool {
    let role = if user.admin { "admin" } else { "notadmin" };
    let mut message = [&user.nonce, &user.username, &user.password, role].join("\0");
    if let Some(user_type) = &user.user_type {
        message.push('\0');
        message.push_str(user_type);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    from_hex(&user.mac).is_some_and(|mac| hmac::verify(&key, message.as_bytes(), &mac).is_ok())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || text.len() > 128 || !text.is_ascii() {
        return None;
    }
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hmac_of_deployed_tools_is_accepted() {
        // printf 'n\0user\0pass\0notadmin' | openssl dgst -sha1 -hmac shared
        let mut user = NewUser {
            nonce: "n".into(),
            username: "user".into(),
            password: "pass".into(),
            displayname: None,
            admin: false,
            user_type: None,
            mac: "MAC".into(),
        };
        assert!(!proves("shared", &user));
        user.mac = "éé".into();
        assert!(!proves("shared", &user));
        user.mac = "621a3c673b1f5ded97757c98e41bc8863e5aec85".into();
        assert!(proves("shared", &user));
        user.admin = true;
        assert!(!proves("shared", &user));
    }
}
