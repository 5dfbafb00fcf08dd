//! Making accounts: plain functions, for the endpoints and for the binary.

use std::net::IpAddr;

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_storage::{Account, Ends, NewAccount, Store, UserNo};
use ruma::{OwnedUserId, ServerName, UserId};

pub use crate::user_ids::user_id;
use crate::{
    App,
    auth::{
        password::Passwords,
        session::{Beginning, Session, SessionRequest},
    },
    config::PasswordCost,
    tasks,
};

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
    require_unused(store, user_id).await?;
    Ok(NewAccount {
        password_hash: Some(passwords.hash(password).await?),
        admin,
        created_ms: store.clock().now_ms(),
        is_guest: false,
        third_parties: Vec::new(),
    })
}

/// Whether the operator lets somebody register this name.
pub(crate) async fn name_is_allowed(store: &Store, user_id: &UserId) -> Result<bool, MatrixError> {
    Ok(!store.blocks().await?.name(user_id.localpart()))
}

/// `M_USER_IN_USE` if there is an account of this id, `M_EXCLUSIVE` if nobody may have one.
pub(crate) async fn require_free(store: &Store, user_id: &UserId) -> Result<(), MatrixError> {
    if !name_is_allowed(store, user_id).await? {
        return Err(MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_EXCLUSIVE",
            "The operator of this server keeps this user name",
        ));
    }
    require_unused(store, user_id).await
}

async fn require_unused(store: &Store, user_id: &UserId) -> Result<(), MatrixError> {
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

/// The account that a name before the colon, or a whole user id, names; also one that has ended.
///
/// # Errors
/// `M_INVALID_PARAM` for a user of another server, `M_INVALID_USERNAME`, `M_NOT_FOUND`.
pub async fn find(
    store: &Store,
    server: &ServerName,
    name: &str,
) -> Result<(OwnedUserId, Account), MatrixError> {
    let name = name.trim();
    let user_id = if name.starts_with('@') {
        UserId::parse(name).map_err(|error| MatrixError::invalid_param(error.to_string()))?
    } else {
        user_id(server, name)?
    };
    if user_id.server_name() != server {
        return Err(MatrixError::invalid_param(format!(
            "{user_id} is not a user of this server, which is {server}"
        )));
    }
    match store.account(&user_id).await? {
        Some(account) => Ok((user_id, account)),
        None => Err(no_account(&user_id)),
    }
}

fn no_account(user_id: &UserId) -> MatrixError {
    MatrixError::not_found(format!("There is no account {user_id}"))
}

/// Ends an account, in the database alone; that its user leaves their rooms is written down as a task for the server.
///
/// # Errors
/// Those of the database.
pub async fn end(
    store: &Store,
    user_id: &UserId,
    user: UserNo,
    erase: bool,
) -> Result<(), MatrixError> {
    store.deactivate_account(user, erase).await?;
    store.add_task(tasks::LEAVE, user_id.as_str()).await?;
    Ok(())
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
        return Err(no_account(&user_id));
    };
    let hash = Passwords::new(cost).hash(password).await?;
    store.set_password(account.user, &hash, Ends::All).await?;
    Ok(())
}
