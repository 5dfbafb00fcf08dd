//! Ids of users who may come to be.

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_storage::Store;
use ruma::{OwnedUserId, ServerName, UserId};

use crate::App;

/// A user id is at most this long, in bytes (<https://spec.matrix.org/v1.19/appendices/#user-identifiers>).
const MAX_USER_ID: usize = 255;

/// The user of this server that a localpart or a full user id names.
pub(crate) fn local_user(app: &App, name: &str) -> Option<OwnedUserId> {
    let server = &app.config.server_name;
    let user_id = UserId::parse_with_server_name(name, server).ok()?;
    (user_id.server_name() == server).then_some(user_id)
}

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

/// `M_INVALID_USERNAME` for capitals, from whom what is small isn't the same: an application service that goes on by the name
/// that it has asked for.
pub(crate) fn require_small(username: &str) -> Result<(), MatrixError> {
    if username.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_INVALID_USERNAME",
            "A user name has no capitals",
        ));
    }
    Ok(())
}

/// 400 `M_EXCLUSIVE`: it is somebody else's to make, or to do away with.
pub(crate) fn exclusive(message: &str) -> MatrixError {
    MatrixError::new(StatusCode::BAD_REQUEST, "M_EXCLUSIVE", message)
}

/// `M_EXCLUSIVE` if only an application service may make this account.
pub(crate) fn require_nobodys(app: &App, user_id: &UserId) -> Result<(), MatrixError> {
    let services = app.federation.services().current();
    match services.exclusive_owner_of_user(user_id) {
        None => Ok(()),
        Some(_) => Err(exclusive("The user name is an application service's")),
    }
}

/// `M_INVALID_USERNAME` if the operator keeps the name for themselves, or doesn't want such ones; `M_EXCLUSIVE` if it is an
/// application service's.
pub(crate) fn require_permitted(app: &App, user_id: &UserId) -> Result<(), MatrixError> {
    require_nobodys(app, user_id)?;
    if is_ours(app, user_id) || !app.config.registration_rules.permit(user_id.localpart()) {
        return Err(MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_INVALID_USERNAME",
            "Nobody can register under this name on this server; choose another",
        ));
    }
    Ok(())
}

/// Whether it is the user of whom the notices of this server are.
pub(crate) fn is_ours(app: &App, user_id: &UserId) -> bool {
    let notices = app.config.notices.as_ref();
    notices.is_some_and(|notices| notices.user == user_id)
}

/// Whether the operator lets somebody register this name.
async fn name_is_allowed(store: &Store, user_id: &UserId) -> Result<bool, MatrixError> {
    Ok(!store.blocks().await?.name(user_id.localpart()))
}

/// `M_EXCLUSIVE` if the operator lets nobody have this name.
pub(crate) async fn require_allowed(store: &Store, user_id: &UserId) -> Result<(), MatrixError> {
    if !name_is_allowed(store, user_id).await? {
        return Err(exclusive(
            "The operator of this server keeps this user name",
        ));
    }
    Ok(())
}
