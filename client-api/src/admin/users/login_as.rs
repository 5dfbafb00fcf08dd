//! Acting as a user: an administrator gets a token by which requests are that user's. It belongs to no device, so that the
//! user sees nothing of it, and goes with the administrator's rights, or when they log out everywhere.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use serde::Deserialize;
use serde_json::json;

use crate::{
    App, Ruma,
    admin::{asked, endpoint::endpoints, subject},
    auth::token::{hash_of, new_login_as},
};

endpoints! {
    /// `POST`: a token by which the administrator acts as a user.
    PostLogin: POST "/_synapse/admin/v1/users/{user_id}/login";
}

#[derive(Deserialize)]
struct Wish {
    valid_until_ms: Option<i64>,
}

/// `POST /_synapse/admin/v1/users/{userId}/login`
pub async fn login(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<PostLogin>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, account) = subject::living(&app, req.part(0)).await?;
    let Wish { valid_until_ms } = asked::body(&body)?;
    subject::not_oneself(&who, &user_id, "log in as")?;
    // What they did as one another would be nobody's.
    subject::no_administrator(&account)?;
    let now = app.store.clock().now_ms();
    if valid_until_ms.is_some_and(|until| until <= now) {
        return Err(MatrixError::invalid_param("valid_until_ms is over already"));
    }
    let token = new_login_as()?;
    let hash = hash_of(&token);
    let added = app
        .store
        .add_login_as(who.user, account.user, &hash, valid_until_ms);
    if !added.await? {
        // One of the two accounts isn't what it was a moment ago.
        return Err(MatrixError::forbidden("You can't act as this user"));
    }
    tracing::info!(by = %who.user_id, user = %user_id, "an administrator acts as a user");
    RawJson::of(&json!({ "access_token": token }))
}
