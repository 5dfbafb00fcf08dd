//! Ending sessions.

use axum::extract::State;
use rhizome_edge::MatrixError;
use ruma::api::client::session::{logout::v3 as logout, logout_all::v3 as logout_all};

use crate::{App, Ruma};

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
