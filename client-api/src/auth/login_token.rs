//! Logging in with a token that another device got.

use rhizome_edge::MatrixError;
use ruma::OwnedUserId;

use crate::{App, auth::token::hash_of};

/// Whose login token it is. From now on it is good no more.
///
/// # Errors
/// 403 `M_FORBIDDEN` if it isn't good.
pub async fn redeem(app: &App, token: &str) -> Result<OwnedUserId, MatrixError> {
    match app.store.take_login_token(&hash_of(token)).await? {
        Some(user) if app.config.login_tokens.is_some() => Ok(app.store.user(user).await?),
        _ => Err(MatrixError::forbidden(
            "The login token is unknown, has expired or was used",
        )),
    }
}
