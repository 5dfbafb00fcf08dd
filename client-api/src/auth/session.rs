//! Refreshing and ending sessions.

use std::time::Duration;

use axum::extract::State;
use rhizome_edge::MatrixError;
use ruma::api::client::session::{
    logout::v3 as logout, logout_all::v3 as logout_all, refresh_token::v3 as refresh,
};

use crate::{App, Ruma, account::users::Tokens, auth::token::hash_of};

/// `POST /_matrix/client/v3/refresh`
///
/// The old refresh token stays good until one of the new tokens is used, so that an answer that got
/// lost costs nothing.
pub async fn refresh(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<refresh::Request>,
) -> Result<refresh::Response, MatrixError> {
    let old = hash_of(&req.refresh_token);
    let tokens = Tokens::new(&app, true)?;
    if !app.store.refresh(&old, tokens.hashes()).await? {
        return Err(MatrixError::unknown_token(false));
    }
    let mut response = refresh::Response::new(tokens.access);
    response.refresh_token = tokens.refresh;
    response.expires_in_ms = tokens.expires_in_ms.map(Duration::from_millis);
    Ok(response)
}

/// `POST /_matrix/client/v3/logout`
pub async fn logout(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<logout::Request>,
) -> Result<logout::Response, MatrixError> {
    app.store
        .remove_devices(who.user, &[who.device()?.clone()])
        .await?;
    Ok(logout::Response::new())
}

/// `POST /_matrix/client/v3/logout/all`
pub async fn logout_all(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<logout_all::Request>,
) -> Result<logout_all::Response, MatrixError> {
    app.store.end_sessions(who.user, None).await?;
    Ok(logout_all::Response::new())
}
