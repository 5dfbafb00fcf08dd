//! Refreshing and ending sessions.

use std::time::Duration;

use axum::extract::State;
use rhizome_federation::MatrixError;
use rhizome_storage::{Fact, Token};
use ruma::api::client::session::{
    logout::v3 as logout, logout_all::v3 as logout_all, refresh_token::v3 as refresh,
};

use crate::{
    App, Ruma,
    auth::hash_of,
    users::{self, Tokens},
};

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
    let Some(refreshed) = app.store.refresh(&old, tokens.hashes()).await? else {
        return Err(MatrixError::unknown_token(false));
    };
    let device = Some(refreshed.device_id);
    users::publish(
        &app.store,
        vec![Fact::TokenRevoked {
            user: refreshed.user,
            device,
        }],
    )
    .await?;
    let mut response = refresh::Response::new(tokens.access);
    response.refresh_token = tokens.refresh;
    response.expires_in_ms = tokens.expires_in_ms.map(Duration::from_millis);
    Ok(response)
}

/// A refreshed access token is used for the first time: what it came from ends.
pub(crate) async fn confirm_refresh(
    app: &App,
    access_hash: &str,
    token: &Token,
) -> Result<(), MatrixError> {
    app.store.confirm_refresh(access_hash).await?;
    let device = Some(token.device_id.clone());
    users::publish(
        &app.store,
        vec![Fact::TokenRevoked {
            user: token.user,
            device,
        }],
    )
    .await
}

/// `POST /_matrix/client/v3/logout`
pub async fn logout(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<logout::Request>,
) -> Result<logout::Response, MatrixError> {
    users::remove_devices(&app.store, who.user, &[who.device_id]).await?;
    Ok(logout::Response::new())
}

/// `POST /_matrix/client/v3/logout/all`
pub async fn logout_all(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<logout_all::Request>,
) -> Result<logout_all::Response, MatrixError> {
    users::end_sessions(&app.store, who.user, None).await?;
    Ok(logout_all::Response::new())
}
