//! Sessions: a device and its tokens, for whoever has registered or logged in.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use rhizome_edge::MatrixError;
use rhizome_storage::{FirstLogin, NewLogin, NewTokens, UserNo, millis, random};
use ruma::{DeviceId, OwnedDeviceId, UserId};
use serde_json::{Value, json};

use crate::{App, auth::token::hash_of};

/// The longest name of a device, in bytes.
const MAX_DEVICE_NAME: usize = 1024;
/// The longest id of a device, in bytes.
const MAX_DEVICE_ID: usize = 255;
/// The length of 32 bytes in base64, the shortest name that a cross-signing key can have.
const KEY_NAME: usize = 43;

/// What a client asks for when it logs in.
#[derive(Debug, Clone, Default)]
pub struct SessionRequest {
    /// The device to be; a new one if absent.
    pub device_id: Option<OwnedDeviceId>,
    /// Its name, if it is new.
    pub device_name: Option<String>,
    /// Whether the client can refresh tokens.
    pub refreshable: bool,
    /// What its password was found to match.
    pub proof: Option<String>,
    /// Whether who asks has shown the account's password, or given it one.
    pub by_password: bool,
    /// Whether it is a guest's, who can't log in again.
    pub is_guest: bool,
}

/// A session that has begun.
#[derive(Debug)]
pub struct Session {
    /// The device.
    pub device_id: OwnedDeviceId,
    /// Its access token.
    pub access_token: String,
    /// Its refresh token.
    pub refresh_token: Option<String>,
    /// When the access token ends, in milliseconds from now.
    pub expires_in_ms: Option<u64>,
}

/// Begins a session: makes or takes over the device, whose older tokens end, and gives it tokens.
///
/// # Errors
/// `M_INVALID_PARAM` for an impossible device id or name, `M_FORBIDDEN` if the password has changed.
pub async fn begin(
    app: &App,
    user: UserNo,
    request: SessionRequest,
    peer: Option<IpAddr>,
) -> Result<Session, MatrixError> {
    let named = request.device_id.clone();
    let new = Beginning::new(app, request, peer)?;
    if let Some(name) = named {
        check_no_key(app, user, &name).await?;
    }
    if !app.store.log_in(&(new.login)(user)).await? {
        return Err(MatrixError::forbidden("The password was changed"));
    }
    Ok(new.session)
}

/// `M_INVALID_PARAM` if it is the name of a cross-signing key of the user: devices share their names with them.
pub async fn check_no_key(app: &App, user: UserNo, name: &DeviceId) -> Result<(), MatrixError> {
    // A key's are longer than most devices'.
    if name.as_str().len() >= KEY_NAME
        && app.store.is_cross_signing_key(user, name.as_str()).await?
    {
        let message = "The device id is the name of one of the user's cross-signing keys";
        return Err(MatrixError::invalid_param(message));
    }
    Ok(())
}

/// A session that is about to begin, and what is written of it.
pub struct Beginning {
    /// What its client is told.
    pub session: Session,
    /// What is written, once its user has a number.
    pub login: FirstLogin,
}

impl Beginning {
    /// With an id and tokens of its own, on nobody's record yet.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for an impossible device id or name.
    pub fn new(
        app: &App,
        request: SessionRequest,
        peer: Option<IpAddr>,
    ) -> Result<Self, MatrixError> {
        let device_id = device_id(request.device_id)?;
        if let Some(name) = &request.device_name {
            check_device_name(name)?;
        }
        let tokens = if request.refreshable {
            Tokens::refreshable(app, None)?
        } else {
            let ends = app.config.lasting_token_lifetime;
            Tokens::lasting(app, ends.filter(|_| !request.is_guest))?
        };
        let (id, hashes) = (device_id.clone(), tokens.hashes());
        let now_ms = app.store.clock().now_ms();
        let login = move |user| NewLogin {
            user,
            device_id: id,
            device_name: request.device_name,
            ip: peer.unwrap_or(Ipv4Addr::UNSPECIFIED.into()).to_string(),
            now_ms,
            tokens: hashes,
            proof: request.proof,
            proved: request.by_password,
        };
        Ok(Self {
            session: Session {
                device_id,
                access_token: tokens.access,
                refresh_token: tokens.refresh,
                expires_in_ms: tokens.expires_in_ms,
            },
            login: Box::new(login),
        })
    }
}

/// `M_INVALID_PARAM` if the name is too long.
pub fn check_device_name(name: &str) -> Result<(), MatrixError> {
    if name.len() > MAX_DEVICE_NAME {
        return Err(MatrixError::invalid_param(format!(
            "A device's name must not be longer than {MAX_DEVICE_NAME} bytes"
        )));
    }
    Ok(())
}

/// What is answered to whoever has registered or logged in.
pub fn answer(app: &App, user_id: &UserId, session: Option<Session>) -> Value {
    let Some(session) = session else {
        return json!({ "user_id": user_id });
    };
    let mut answer = json!({
        "user_id": user_id,
        "home_server": app.config.server_name,
        "device_id": session.device_id,
        "access_token": session.access_token,
    });
    if let Some(refresh_token) = session.refresh_token {
        answer["refresh_token"] = refresh_token.into();
    }
    if let Some(expires_in_ms) = session.expires_in_ms {
        answer["expires_in_ms"] = expires_in_ms.into();
    }
    answer
}

/// The device that a client asks for, or a new one.
pub fn device_id(asked: Option<OwnedDeviceId>) -> Result<OwnedDeviceId, MatrixError> {
    let Some(asked) = asked else {
        return new_device_id();
    };
    check_device_id(&asked)?;
    Ok(asked)
}

/// Ten capitals, about 47 bits, which need only be unique within one user.
fn new_device_id() -> Result<OwnedDeviceId, MatrixError> {
    Ok(random::letters(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", 10)?.into())
}

/// `M_INVALID_PARAM` for an id that no device can have.
pub fn check_device_id(device_id: &DeviceId) -> Result<(), MatrixError> {
    let text = device_id.as_str();
    if text.is_empty() || text.len() > MAX_DEVICE_ID || text.chars().any(char::is_control) {
        return Err(MatrixError::invalid_param(format!(
            "A device id has 1 to {MAX_DEVICE_ID} bytes and no control characters"
        )));
    }
    Ok(())
}

/// What the database knows of a refresh token: a hash of what all of its session have in common, how many came before it,
/// and a hash of itself; so that one that was used before is known though it isn't kept.
pub fn refresh_hash_of(token: &str) -> String {
    match parts(token) {
        Some((session, generation)) => {
            format!("{}.{generation}.{}", hash_of(session), hash_of(token))
        }
        // As they once were.
        None => hash_of(token),
    }
}

/// A refresh token's session, and how many came before it there.
fn parts(token: &str) -> Option<(&str, u64)> {
    let mut parts = token.splitn(3, '.');
    let (session, generation, _) = (parts.next()?, parts.next()?, parts.next()?);
    Some((session, generation.parse().ok()?))
}

/// A new pair of tokens.
pub struct Tokens {
    pub access: String,
    pub refresh: Option<String>,
    pub expires_in_ms: Option<u64>,
    expires_ms: Option<i64>,
    refresh_expires_ms: Option<i64>,
}

impl Tokens {
    /// An access token alone, that ends after `lifetime` or not by itself.
    fn lasting(app: &App, lifetime: Option<Duration>) -> Result<Self, MatrixError> {
        let lifetime_ms = lifetime.map(millis);
        Ok(Self {
            access: random::secret()?,
            refresh: None,
            expires_in_ms: lifetime_ms.and_then(|ms| u64::try_from(ms).ok()),
            expires_ms: lifetime_ms.map(|ms| in_ms(app, ms)),
            refresh_expires_ms: None,
        })
    }

    /// An access token that ends, and a refresh token with it: of the session of the one that it comes after.
    pub fn refreshable(app: &App, after: Option<&str>) -> Result<Self, MatrixError> {
        let lifetime = app.config.access_token_lifetime_ms;
        let ends = i64::try_from(lifetime).unwrap_or(i64::MAX);
        let refresh_ends = app.config.refresh_token_lifetime.map(millis);
        let (session, generation) = match after.and_then(parts) {
            Some((session, generation)) => (session.to_owned(), generation.saturating_add(1)),
            None => (random::secret()?, 0),
        };
        Ok(Self {
            access: random::secret()?,
            refresh: Some(format!("{session}.{generation}.{}", random::secret()?)),
            expires_in_ms: Some(lifetime),
            expires_ms: Some(in_ms(app, ends)),
            refresh_expires_ms: refresh_ends.map(|ms| in_ms(app, ms)),
        })
    }

    /// What the database may know of them.
    pub fn hashes(&self) -> NewTokens {
        NewTokens {
            access_hash: hash_of(&self.access),
            refresh_hash: self.refresh.as_deref().map(refresh_hash_of),
            expires_ms: self.expires_ms,
            refresh_expires_ms: self.refresh_expires_ms,
        }
    }
}

/// The time in so many milliseconds.
fn in_ms(app: &App, ms: i64) -> i64 {
    app.store.clock().now_ms().saturating_add(ms)
}
