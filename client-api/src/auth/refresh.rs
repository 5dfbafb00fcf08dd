//! New tokens for a session.

use std::time::Duration;

use axum::extract::State;
use rhizome_edge::MatrixError;
use ruma::api::client::session::refresh_token::v3 as refresh;

use crate::{
    App, Ruma,
    auth::{
        session::{Tokens, refresh_hash_of},
        standing,
    },
};

/// `POST /_matrix/client/v3/refresh`
///
/// The old refresh token stays good until one of the new tokens is used, so that an answer that got
/// lost costs nothing. One that is used after that may be stolen: the session's tokens end, whoever has them, and who owns
/// it logs in again as the same device. So does who comes with one that has expired.
pub async fn refresh(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<refresh::Request>,
) -> Result<refresh::Response, MatrixError> {
    let old = refresh_hash_of(&req.refresh_token);
    if app.store.is_refresh_locked(&old).await? {
        return Err(standing::locked());
    }
    let tokens = Tokens::refreshable(&app, Some(&req.refresh_token))?;
    if !app.store.refresh(&old, tokens.hashes()).await? {
        let soft_logout = app.store.refresh_reused(&old).await?;
        return Err(MatrixError::unknown_token(soft_logout));
    }
    let mut response = refresh::Response::new(tokens.access);
    response.refresh_token = tokens.refresh;
    response.expires_in_ms = tokens.expires_in_ms.map(Duration::from_millis);
    Ok(response)
}
