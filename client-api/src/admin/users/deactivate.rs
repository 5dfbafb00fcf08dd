//! The end of accounts, passwords, and what else is made of them.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_storage::{Account, Ends};
use ruma::UserId;
use serde::Deserialize;
use serde_json::json;

use crate::{
    App, Ruma,
    account::{contact::bind, users},
    admin::{asked, endpoint::endpoints, subject},
};

endpoints! {
    /// `POST`: ends an account for ever.
    PostDeactivate: POST "/_synapse/admin/v1/deactivate/{user_id}";
    /// `POST`: gives an account another password.
    PostPassword: POST "/_synapse/admin/v1/reset_password/{user_id}";
}

#[derive(Deserialize)]
struct Ending {
    #[serde(default)]
    erase: bool,
}

/// `POST /_synapse/admin/v1/deactivate/{userId}`
pub async fn deactivate(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<PostDeactivate>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, account) = subject::account(&app, req.part(0)).await?;
    let Ending { erase } = asked::body(&body)?;
    subject::not_oneself(&who, &user_id, "deactivate")?;
    let unbound = end(&app, &user_id, &account, erase).await?;
    tracing::info!(by = %who.user_id, user = %user_id, erase, "an account was ended");
    let result = if unbound { "success" } else { "no-support" };
    RawJson::of(&json!({ "id_server_unbind_result": result }))
}

/// Ends an account, or does what is left to do of one that has ended: what of it is told elsewhere is taken back, and its
/// user leaves their rooms, as a task. `false` if something isn't taken back.
///
/// # Errors
/// Those of the database.
pub async fn end(
    app: &App,
    user_id: &UserId,
    account: &Account,
    erase: bool,
) -> Result<bool, MatrixError> {
    let who = subject::as_if(user_id, account);
    let unbound = bind::unbind_every(app, &who, None).await?;
    users::end(&app.store, user_id, account.user, erase).await?;
    Ok(unbound)
}

#[derive(Deserialize)]
struct NewPassword {
    new_password: String,
    #[serde(default = "yes")]
    logout_devices: bool,
}

fn yes() -> bool {
    true
}

/// `POST /_synapse/admin/v1/reset_password/{userId}`
pub async fn reset_password(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<PostPassword>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, account) = subject::living(&app, req.part(0)).await?;
    let new: NewPassword = asked::body(&body)?;
    let ends = if new.logout_devices {
        Ends::All
    } else {
        Ends::Nothing
    };
    users::give_password(&app, account.user, &new.new_password, ends).await?;
    tracing::info!(by = %who.user_id, user = %user_id, "a password was set");
    RawJson::of(&json!({}))
}
