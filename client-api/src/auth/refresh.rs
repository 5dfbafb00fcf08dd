//! New tokens for a session.

use std::time::Duration;

use axum::extract::State;
use rhizome_edge::MatrixError;
use ruma::api::client::session::refresh_token::v3 as refresh;

use crate::{
    App, Ruma,
    auth::{session::Tokens, token::hash_of},
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
    if !app.store.refresh(&old, tokens.hashes()).await? {
        return Err(MatrixError::unknown_token(false));
    }
    let mut response = refresh::Response::new(tokens.access);
    response.refresh_token = tokens.refresh;
    response.expires_in_ms = tokens.expires_in_ms.map(Duration::from_millis);
    Ok(response)
}
