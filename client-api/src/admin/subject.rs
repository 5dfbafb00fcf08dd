//! What paths name: users of this server, rooms, servers.

use rhizome_edge::MatrixError;
use rhizome_storage::{Account, RoomHead, UserNo};
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomAliasId, RoomId, ServerName, UserId};
use std::sync::Arc;

use crate::{App, Caller};

/// A user, of this server or another.
///
/// # Errors
/// 400 `M_INVALID_PARAM`
pub fn user_id(text: &str) -> Result<OwnedUserId, MatrixError> {
    UserId::parse(text).map_err(|error| MatrixError::invalid_param(format!("user id: {error}")))
}

/// A user of this server, whether there is such an account or not.
///
/// # Errors
/// 400 `M_INVALID_PARAM`: what can be done here can't be done to users of others.
pub fn local(app: &App, text: &str) -> Result<OwnedUserId, MatrixError> {
    let user_id = user_id(text)?;
    if user_id.server_name() != app.config.server_name {
        return Err(MatrixError::invalid_param(
            "The user doesn't belong to this server",
        ));
    }
    Ok(user_id)
}

/// The account of a user of this server, also one that has ended.
///
/// # Errors
/// 400 `M_INVALID_PARAM`, 404 `M_NOT_FOUND`
pub async fn account(app: &App, text: &str) -> Result<(OwnedUserId, Account), MatrixError> {
    let user_id = local(app, text)?;
    match app.store.account(&user_id).await? {
        Some(account) => Ok((user_id, account)),
        None => Err(no_user()),
    }
}

/// The same, unless it has ended.
///
/// # Errors
/// Those of [`account`].
pub async fn living(app: &App, text: &str) -> Result<(OwnedUserId, Account), MatrixError> {
    let (user_id, account) = account(app, text).await?;
    if account.deactivated {
        return Err(MatrixError::not_found("The account has been deactivated"));
    }
    Ok((user_id, account))
}

/// The number of a user of any server.
///
/// # Errors
/// 400 `M_INVALID_PARAM`; 404 `M_NOT_FOUND` for a user of this server who has no account.
pub async fn anybody(app: &App, text: &str) -> Result<Option<UserNo>, MatrixError> {
    let user_id = user_id(text)?;
    if user_id.server_name() == app.config.server_name {
        return Ok(Some(account(app, text).await?.1.user));
    }
    Ok(app.store.known_user(&user_id).await?)
}

/// What an administrator does that isn't done to another one: the other has to lose the right first, which is seen.
///
/// # Errors
/// 403 `M_FORBIDDEN`
pub fn no_administrator(account: &Account) -> Result<(), MatrixError> {
    if account.admin {
        return Err(MatrixError::forbidden(
            "The account is an administrator's: they have to lose that right first",
        ));
    }
    Ok(())
}

/// What nobody does to themselves.
///
/// # Errors
/// 400 `M_INVALID_PARAM`
pub fn not_oneself(who: &Caller, user_id: &UserId, what: &str) -> Result<(), MatrixError> {
    if who.user_id == user_id {
        return Err(MatrixError::invalid_param(format!(
            "You may not {what} yourself"
        )));
    }
    Ok(())
}

/// There is no such account here.
pub fn no_user() -> MatrixError {
    MatrixError::not_found("There is no such user")
}

/// A room that this server is or was in.
///
/// # Errors
/// 400 `M_INVALID_PARAM`, 404 `M_NOT_FOUND`
pub async fn room(app: &App, text: &str) -> Result<Arc<RoomHead>, MatrixError> {
    let room_id = crate::content::room_id(text)?;
    known_room(app, &room_id).await
}

/// The same by its id.
///
/// # Errors
/// 404 `M_NOT_FOUND`
pub async fn known_room(app: &App, room_id: &RoomId) -> Result<Arc<RoomHead>, MatrixError> {
    // What another process has answered is known here too.
    app.store.log().refresh().await?;
    let head = app.store.room(room_id).await?;
    head.ok_or_else(|| MatrixError::not_found("This server doesn't know the room"))
}

/// The same by its id or an alias of this server.
///
/// # Errors
/// 400 `M_INVALID_PARAM`, 404 `M_NOT_FOUND`
pub async fn room_or_alias(app: &App, text: &str) -> Result<Arc<RoomHead>, MatrixError> {
    let Ok(alias) = RoomAliasId::parse(text) else {
        return room(app, text).await;
    };
    let found = app.store.alias(&alias).await?;
    let found = found.ok_or_else(|| MatrixError::not_found("There is no such alias here"))?;
    let room_id: OwnedRoomId = found.room_id;
    known_room(app, &room_id).await
}

/// A server's name.
///
/// # Errors
/// 400 `M_INVALID_PARAM`
pub fn server(text: &str) -> Result<OwnedServerName, MatrixError> {
    ServerName::parse(text)
        .map_err(|error| MatrixError::invalid_param(format!("server name: {error}")))
}

/// Who does something for a user that they could do themselves.
pub fn as_if(user_id: &UserId, account: &Account) -> Caller {
    Caller {
        user_id: user_id.to_owned(),
        user: account.user,
        device_id: None,
        is_guest: false,
        is_suspended: false,
        service: None,
    }
}
