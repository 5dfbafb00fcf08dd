//! Making accounts: plain functions, for the endpoints and for the binary.

use std::net::IpAddr;

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_storage::{Account, Admission, Ends, Medium, NewAccount, Store, ThirdParty, UserNo};
use ruma::{OwnedUserId, ServerName, UserId};

pub use crate::user_ids::user_id;
pub(crate) use crate::user_ids::{require_allowed, require_nobodys, require_permitted};
use crate::{
    App,
    auth::{
        password::{Passwords, Turn},
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
    let new = New {
        user_id: &user_id,
        password: Some(password),
        admin,
        third_parties: Vec::new(),
        admission: Admission::default(),
        turn: Turn::FIRST,
    };
    let name = Some(user_id.localpart().to_owned());
    let account = new_account(store, new, name, &Passwords::new(cost)).await?;
    match store.create_account(&user_id, account, None).await? {
        Some(_) => Ok(user_id),
        None => Err(in_use()),
    }
}

/// Makes the account of an application service's own user, if it isn't there: nobody can log in to it. Gives whether
/// there is one with a password, which somebody else has made.
///
/// # Errors
/// Those of the database.
pub async fn of_service(store: &Store, user_id: &UserId) -> Result<bool, MatrixError> {
    if store.account(user_id).await?.is_none() {
        let account = NewAccount {
            created_ms: store.clock().now_ms(),
            ..NewAccount::default()
        };
        // Another process may be as quick.
        store.create_account(user_id, account, None).await?;
    }
    let account = store.account(user_id).await?;
    Ok(account.is_some_and(|account| account.password_hash.is_some()))
}

/// An account to be made.
pub(crate) struct New<'a> {
    /// Whose.
    pub user_id: &'a UserId,
    /// What opens it; nothing does without.
    pub password: Option<&'a str>,
    /// Whether it may administrate the server.
    pub admin: bool,
    /// Addresses that were found to be its owner's.
    pub third_parties: Vec<ThirdParty>,
    /// By what it comes to be.
    pub admission: Admission,
    /// When its password is hashed.
    pub turn: Turn,
}

/// Makes an account and, if one is asked for, begins its first session, both in one moment.
///
/// # Errors
/// `M_USER_IN_USE`, `M_WEAK_PASSWORD`, `M_INVALID_PARAM` for an impossible device id or name.
pub(crate) async fn register(
    app: &App,
    new: New<'_>,
    first: Option<(SessionRequest, Option<IpAddr>)>,
) -> Result<Option<Session>, MatrixError> {
    let user_id = new.user_id;
    let name = app.config.registration_rules.first_name(user_id);
    let addresses = new.third_parties.clone();
    let takes_token = new.admission.token.is_some();
    let account = new_account(&app.store, new, name, &app.passwords).await?;
    let beginning = match first {
        Some((request, peer)) => Some(Beginning::new(app, request, peer)?),
        None => None,
    };
    let (session, login) = beginning.map(|new| (new.session, new.login)).unzip();
    match app.store.create_account(user_id, account, login).await? {
        Some(_) => Ok(session),
        None if app.store.account(user_id).await?.is_some() => Err(in_use()),
        None => Err(not_made(&app.store, &addresses, takes_token).await?),
    }
}

/// Why nothing was made of an account whose name is nobody's.
pub(crate) async fn not_made(
    store: &Store,
    addresses: &[ThirdParty],
    takes_token: bool,
) -> Result<MatrixError, MatrixError> {
    for address in addresses {
        let owner = store.third_party_owner(address.medium, &address.address);
        if owner.await?.is_some() {
            return Ok(address_in_use());
        }
    }
    Ok(if takes_token {
        MatrixError::forbidden("The registration token has been used as often as it may be")
    } else {
        in_use()
    })
}

/// Makes an account as an administrator wants it, whoever else may register. Its user is called `name`, or as users are at
/// first.
///
/// # Errors
/// Those of [`register`].
pub(crate) async fn make(
    app: &App,
    new: New<'_>,
    name: Option<String>,
) -> Result<UserNo, MatrixError> {
    let user_id = new.user_id;
    let name = name.or_else(|| app.config.registration_rules.first_name(user_id));
    let addresses = new.third_parties.clone();
    let account = new_account(&app.store, new, name, &app.passwords).await?;
    match app.store.create_account(user_id, account, None).await? {
        Some(user) => Ok(user),
        None => Err(not_made(&app.store, &addresses, false).await?),
    }
}

async fn new_account(
    store: &Store,
    new: New<'_>,
    display_name: Option<String>,
    passwords: &Passwords,
) -> Result<NewAccount, MatrixError> {
    require_unused(store, new.user_id).await?;
    let password_hash = match new.password {
        Some(password) => Some(passwords.hash(password, new.turn).await?),
        None => None,
    };
    Ok(NewAccount {
        password_hash,
        admin: new.admin,
        created_ms: store.clock().now_ms(),
        is_guest: false,
        third_parties: new.third_parties,
        display_name,
        admission: new.admission,
    })
}

/// `M_USER_IN_USE` if there is an account of this id, `M_EXCLUSIVE` if nobody may have one.
pub(crate) async fn require_free(store: &Store, user_id: &UserId) -> Result<(), MatrixError> {
    require_allowed(store, user_id).await?;
    require_unused(store, user_id).await
}

/// `M_USER_IN_USE` if there is an account of this id, or was one.
pub(crate) async fn require_unused(store: &Store, user_id: &UserId) -> Result<(), MatrixError> {
    if store.account(user_id).await?.is_some() {
        Err(in_use())
    } else {
        Ok(())
    }
}

pub(crate) fn address_in_use() -> MatrixError {
    MatrixError::new(
        StatusCode::BAD_REQUEST,
        "M_THREEPID_IN_USE",
        "Another account has this address",
    )
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
    let task = (tasks::LEAVE, user_id.as_str());
    store.deactivate_account_then(user, erase, task).await?;
    Ok(())
}

/// Approves an account that waits for it, in the database alone; that its owner is told by mail, if that can be, is written
/// down as a task for the server. `false` if it doesn't wait.
///
/// # Errors
/// Those of the database.
pub async fn approve(store: &Store, user_id: &UserId, user: UserNo) -> Result<bool, MatrixError> {
    let addresses = store.third_parties(user).await?;
    let has_mail = (addresses.iter()).any(|one| one.third_party.medium == Medium::Email);
    let task = (tasks::APPROVED, user_id.as_str());
    Ok(store.approve(user, has_mail.then_some(task)).await?)
}

/// Sets an account's password, as an administrator wants it, and ends all its sessions if that is wanted.
///
/// # Errors
/// `M_WEAK_PASSWORD`, `M_INVALID_PARAM` for one that is too long.
pub(crate) async fn give_password(
    app: &App,
    user: UserNo,
    password: &str,
    ends: Ends<'_>,
) -> Result<(), MatrixError> {
    let hash = app.passwords.hash(password, Turn::FIRST).await?;
    app.store.set_password(user, &hash, ends).await?;
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
    let hash = Passwords::new(cost).hash(password, Turn::FIRST).await?;
    store.set_password(account.user, &hash, Ends::All).await?;
    Ok(())
}
