//! Tokens by which users prove to other services who they are (<https://spec.matrix.org/v1.19/client-server-api/#openid>).

use std::time::Duration;

use axum::extract::State;
use rhizome_edge::MatrixError;
use rhizome_storage::{millis, random};
use ruma::{api::client::account::request_openid_token::v3 as request, authentication::TokenType};

use crate::{App, Ruma};

/// How long a token holds: as long as it takes to show it, and for the other service to ask whose it is.
const LIFETIME: Duration = Duration::from_hours(1);

/// `POST /_matrix/client/v3/user/{userId}/openid/request_token`
pub async fn request_token(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<request::Request>,
) -> Result<request::Response, MatrixError> {
    if who.user_id != req.user_id {
        return Err(MatrixError::forbidden("This is another user"));
    }
    let token = random::secret()?;
    let until = app.store.clock().now_ms() + millis(LIFETIME);
    let session = (who.user, &**who.device()?);
    if !app.store.add_openid_token(session, &token, until).await? {
        // It has logged out meanwhile.
        return Err(MatrixError::unknown_token(false));
    }
    let server = app.config.server_name.clone();
    Ok(request::Response::new(
        token,
        TokenType::Bearer,
        server,
        LIFETIME,
    ))
}
