//! Logging in with a JSON Web Token that the operator's own system has signed (`org.matrix.login.jwt`).

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_storage::NewAccount;
use ruma::OwnedUserId;

use crate::{
    App,
    user_ids::{is_ours, require_allowed, require_permitted, user_id},
};

/// The user whom a token names; an account is made for them if the operator wants it so.
///
/// # Errors
/// 403 `M_FORBIDDEN` if the token isn't good or there is no such account.
pub async fn user_of(app: &App, token: &str) -> Result<OwnedUserId, MatrixError> {
    let Some(jwt) = &app.config.jwt else {
        return Err(MatrixError::forbidden("This server takes no such tokens"));
    };
    let now_s = app.store.clock().now_ms() / 1000;
    let subject = jwt
        .subject(token, now_s)
        .map_err(|why| MatrixError::forbidden(format!("The token isn't good: {why}")))?;
    let user_id = user_id(&app.config.server_name, &subject)?;
    // Where capitals make a difference, it could be somebody else.
    if user_id.localpart() != subject {
        return Err(MatrixError::forbidden(
            "The token isn't good: whom it names is no user name as it is kept, in small letters",
        ));
    }
    if is_ours(app, &user_id) {
        return Err(MatrixError::forbidden(
            "The account is this server's own, and nobody logs in to it",
        ));
    }
    let account = match app.store.account(&user_id).await? {
        None if jwt.creates() => {
            require_permitted(app, &user_id)?;
            require_allowed(&app.store, &user_id).await?;
            let account = NewAccount {
                created_ms: app.store.clock().now_ms(),
                ..NewAccount::default()
            };
            // Another request may be as quick.
            app.store.create_account(&user_id, account, None).await?;
            app.store.account(&user_id).await?
        }
        account => account,
    };
    match account {
        Some(account) if !account.deactivated => Ok(user_id),
        Some(_) => Err(MatrixError::new(
            StatusCode::FORBIDDEN,
            "M_USER_DEACTIVATED",
            "The account has been deactivated",
        )),
        None => Err(MatrixError::forbidden("There is no such account")),
    }
}
