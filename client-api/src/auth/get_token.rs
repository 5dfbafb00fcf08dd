//! Tokens with which somebody who is logged in logs another device in
//! (<https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv1loginget_token>).

use axum::extract::State;
use rhizome_edge::MatrixError;
use rhizome_storage::{millis, random};
use ruma::api::client::session::get_login_token::v1 as get_token;

use crate::{
    App, Ruma,
    auth::{
        token::hash_of,
        uia::{self, Act},
    },
};

/// So many of a user are good at a time.
const MOST: usize = 10;

/// `POST /_matrix/client/v1/login/get_token`
///
/// Each has to be confirmed, unless the operator wants it otherwise for who has done so of late: nobody else gets in because
/// a client was left unattended.
pub async fn get(
    State(app): State<App>,
    Ruma {
        who,
        req,
        body,
        peer,
    }: Ruma<get_token::Request>,
) -> Result<get_token::Response, MatrixError> {
    let Some(lifetime) = app.config.login_tokens else {
        return Err(MatrixError::new(
            http::StatusCode::NOT_FOUND,
            "M_UNRECOGNIZED",
            "This server gives out no login tokens",
        ));
    };
    let act = Act {
        what: "login_token",
        to: "",
        body: &body,
        lately_will_do: true,
    };
    uia::confirm(&app, &who, act, (req.auth.as_ref(), peer)).await?;
    let gone = || MatrixError::unknown_token(false);
    let device = who.device_id.clone().ok_or_else(gone)?;
    let token = random::secret()?;
    let expires_ms = app.store.clock().now_ms().saturating_add(millis(lifetime));
    let hash = hash_of(&token);
    let by = (who.user, &*device);
    let added = app.store.add_login_token(by, &hash, expires_ms, MOST);
    if !added.await? {
        // It went while this was confirmed, and what it asked for with it.
        if app.store.device(who.user, &device).await?.is_none() {
            return Err(gone());
        }
        let wait = u64::try_from(millis(lifetime)).unwrap_or(u64::MAX);
        return Err(MatrixError::limit_exceeded(wait));
    }
    Ok(get_token::Response::new(lifetime, token))
}
