//! Ending sessions.

use axum::extract::State;
use rhizome_edge::{Binary, MatrixError};
use ruma::api::client::session::{logout::v3 as logout, logout_all::v3 as logout_all};

use crate::{
    App, Ruma,
    auth::token::{hash_of, token_of},
};

/// `POST /_matrix/client/v3/logout`
pub async fn logout(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Binary<logout::Request>>,
) -> Result<logout::Response, MatrixError> {
    if let Some(device) = who.device_id {
        app.store.remove_devices(who.user, &[device]).await?;
        return Ok(logout::Response::new());
    }
    // An administrator who acted as the user: what they did so by is all that there is.
    let request = http::Request::from_parts(req.head.parts, ());
    if let Some(token) = token_of(&request)? {
        app.store.end_login_as(who.user, &hash_of(&token)).await?;
    }
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
