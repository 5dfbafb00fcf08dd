//! Making accounts and sessions: plain functions, for the endpoints and for the binary.

use std::net::{IpAddr, Ipv4Addr};

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_storage::{
    Ends, Fact, FirstLogin, NewAccount, NewLogin, Store, UserNo, WriteSet, random,
};
use ruma::{OwnedDeviceId, OwnedUserId, ServerName, UserId};
use serde_json::{Value, json};

use crate::{
    App,
    auth::{password::Passwords, token::hash_of},
    config::PasswordCost,
};

/// A user id is at most this long, in bytes (<https://spec.matrix.org/v1.19/appendices/#user-identifiers>).
const MAX_USER_ID: usize = 255;
/// The longest name of a device, in bytes.
const MAX_DEVICE_NAME: usize = 1024;
/// The longest id of a device, in bytes.
const MAX_DEVICE_ID: usize = 255;

/// The length of 32 bytes in base64, the shortest name that a cross-signing key can have.
const KEY_NAME: usize = 43;

/// The id that an account of this name would have on `server`. Capitals are taken for small letters.
///
/// # Errors
/// `M_INVALID_USERNAME` outside the grammar of new user ids.
pub fn user_id(server: &ServerName, username: &str) -> Result<OwnedUserId, MatrixError> {
    let invalid =
        |message: String| MatrixError::new(StatusCode::BAD_REQUEST, "M_INVALID_USERNAME", message);
    let name = username.to_ascii_lowercase();
    if name.len() + server.as_str().len() + 2 > MAX_USER_ID {
        return Err(invalid(format!(
            "A user id must not be longer than {MAX_USER_ID} bytes, the server's name included"
        )));
    }
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'=' | b'-' | b'/' | b'+');
    if name.is_empty() || !name.bytes().all(allowed) {
        return Err(invalid(
            "A user name consists of a-z, 0-9 and ._=-/+".into(),
        ));
    }
    UserId::parse(format!("@{name}:{server}")).map_err(|error| invalid(error.to_string()))
}

/// Makes an account, in the database alone: for the binary's command line.
///
/// # Errors
/// `M_INVALID_USERNAME`, `M_USER_IN_USE`, `M_WEAK_PASSWORD`.
pub async fn create(
    store: &Store,
    server: &ServerName,
    username: &str,
    password: &str,
    admin: bool,
    cost: PasswordCost,
) -> Result<OwnedUserId, MatrixError> {
    let user_id = user_id(server, username)?;
    let account = new_account(store, &user_id, password, admin, &Passwords::new(cost)).await?;
    match store.create_account(&user_id, account, None).await? {
        Some(_) => Ok(user_id),
        None => Err(in_use()),
    }
}

/// Makes an account and, if one is asked for, begins its first session, both in one moment.
///
/// # Errors
/// `M_USER_IN_USE`, `M_WEAK_PASSWORD`, `M_INVALID_PARAM` for an impossible device id or name.
pub(crate) async fn register(
    app: &App,
    user_id: &UserId,
    password: &str,
    admin: bool,
    first: Option<(SessionRequest, Option<IpAddr>)>,
) -> Result<Option<Session>, MatrixError> {
    let account = new_account(&app.store, user_id, password, admin, &app.passwords).await?;
    let beginning = match first {
        Some((request, peer)) => Some(Beginning::new(app, request, peer)?),
        None => None,
    };
    let (session, login) = beginning.map(|new| (new.session, new.login)).unzip();
    match app.store.create_account(user_id, account, login).await? {
        Some(_) => Ok(session),
        None => Err(in_use()),
    }
}

async fn new_account(
    store: &Store,
    user_id: &UserId,
    password: &str,
    admin: bool,
    passwords: &Passwords,
) -> Result<NewAccount, MatrixError> {
    require_free(store, user_id).await?;
    Ok(NewAccount {
        password_hash: Some(passwords.hash(password).await?),
        admin,
        created_ms: store.clock().now_ms(),
    })
}

/// `M_USER_IN_USE` if there is an account of this id.
pub(crate) async fn require_free(store: &Store, user_id: &UserId) -> Result<(), MatrixError> {
    if store.account(user_id).await?.is_some() {
        Err(in_use())
    } else {
        Ok(())
    }
}

pub(crate) fn in_use() -> MatrixError {
    MatrixError::new(
        StatusCode::BAD_REQUEST,
        "M_USER_IN_USE",
        "The user name is taken",
    )
}

/// Sets an account's password and ends all its sessions, in the database alone: for the binary's
/// command line.
///
/// # Errors
/// `M_NOT_FOUND` if there is no such account, `M_WEAK_PASSWORD`.
pub async fn set_password(
    store: &Store,
    server: &ServerName,
    username: &str,
    password: &str,
    cost: PasswordCost,
) -> Result<(), MatrixError> {
    let user_id = user_id(server, username)?;
    let account = store
        .account(&user_id)
        .await?
        .filter(|account| !account.deactivated);
    let Some(account) = account else {
        return Err(MatrixError::not_found(format!(
            "There is no account {user_id}"
        )));
    };
    let hash = Passwords::new(cost).hash(password).await?;
    store.set_password(account.user, &hash, Ends::All).await?;
    Ok(())
}

/// Writes facts to the log.
pub async fn publish(store: &Store, facts: Vec<Fact>) -> Result<(), MatrixError> {
    let set = WriteSet::from(facts);
    store.commit(set).await?;
    Ok(())
}

/// What a client asks for when it logs in.
#[derive(Debug, Default)]
pub struct SessionRequest {
    /// The device to be; a new one if absent.
    pub device_id: Option<OwnedDeviceId>,
    /// Its name, if it is new.
    pub device_name: Option<String>,
    /// Whether the client can refresh tokens.
    pub refreshable: bool,
    /// What its password was found to match.
    pub proof: Option<String>,
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
pub async fn begin_session(
    app: &App,
    user: UserNo,
    request: SessionRequest,
    peer: Option<IpAddr>,
) -> Result<Session, MatrixError> {
    let named = request.device_id.clone();
    let new = Beginning::new(app, request, peer)?;
    // Devices and cross-signing keys share their names. A key's are longer than most devices'.
    if let Some(name) = named.filter(|name| name.as_str().len() >= KEY_NAME)
        && app.store.is_cross_signing_key(user, name.as_str()).await?
    {
        let message = "The device id is the name of one of the user's cross-signing keys";
        return Err(MatrixError::invalid_param(message));
    }
    if !app.store.log_in(&(new.login)(user)).await? {
        return Err(MatrixError::forbidden("The password was changed"));
    }
    Ok(new.session)
}

/// A session that is about to begin, and what is written of it.
struct Beginning {
    session: Session,
    login: FirstLogin,
}

impl Beginning {
    fn new(app: &App, request: SessionRequest, peer: Option<IpAddr>) -> Result<Self, MatrixError> {
        let device_id = device_id(request.device_id)?;
        if let Some(name) = &request.device_name {
            check_device_name(name)?;
        }
        let tokens = Tokens::new(app, request.refreshable)?;
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
pub(crate) fn begun(app: &App, user_id: &UserId, session: Option<Session>) -> Value {
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
        answer["expires_in_ms"] = session.expires_in_ms.into();
    }
    answer
}

/// The device that a client asks for, or a new one.
pub(crate) fn device_id(asked: Option<OwnedDeviceId>) -> Result<OwnedDeviceId, MatrixError> {
    asked.map_or_else(new_device_id, checked_device_id)
}

/// Ten capitals, about 47 bits, which need only be unique within one user.
fn new_device_id() -> Result<OwnedDeviceId, MatrixError> {
    Ok(random::letters(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", 10)?.into())
}

fn checked_device_id(device_id: OwnedDeviceId) -> Result<OwnedDeviceId, MatrixError> {
    let text = device_id.as_str();
    if text.is_empty() || text.len() > MAX_DEVICE_ID || text.chars().any(char::is_control) {
        return Err(MatrixError::invalid_param(format!(
            "A device id has 1 to {MAX_DEVICE_ID} bytes and no control characters"
        )));
    }
    Ok(device_id)
}

/// A new pair of tokens.
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: Option<String>,
    pub(crate) expires_in_ms: Option<u64>,
    expires_ms: Option<i64>,
}

impl Tokens {
    /// An access token; if `refreshable`, one that ends, and a refresh token with it.
    pub(crate) fn new(app: &App, refreshable: bool) -> Result<Self, MatrixError> {
        let lifetime = app.config.access_token_lifetime_ms;
        let ends = i64::try_from(lifetime).unwrap_or(i64::MAX);
        Ok(Self {
            access: random::secret()?,
            refresh: if refreshable {
                Some(random::secret()?)
            } else {
                None
            },
            expires_in_ms: refreshable.then_some(lifetime),
            expires_ms: refreshable.then(|| app.store.clock().now_ms().saturating_add(ends)),
        })
    }

    /// What the database may know of them.
    pub(crate) fn hashes(&self) -> rhizome_storage::NewTokens {
        rhizome_storage::NewTokens {
            access_hash: hash_of(&self.access),
            refresh_hash: self.refresh.as_deref().map(hash_of),
            expires_ms: self.expires_ms,
        }
    }
}
