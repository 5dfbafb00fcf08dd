//! The account: whoami, password.

use axum::extract::State;
use rhizome_edge::MatrixError;
use rhizome_storage::Ends;
use ruma::api::client::account::{change_password::v3 as change_password, whoami::v3 as whoami};

use crate::{
    App, Ruma,
    auth::{
        password::Turn,
        reset,
        uia::{self, Act},
    },
};

/// `GET /_matrix/client/v3/account/whoami`
pub async fn whoami(
    State(_): State<App>,
    Ruma { who, .. }: Ruma<whoami::Request>,
) -> Result<whoami::Response, MatrixError> {
    let mut response = whoami::Response::new(who.user_id, who.is_guest);
    response.device_id = who.device_id;
    Ok(response)
}

/// `POST /_matrix/client/v3/account/password`
pub async fn change_password(
    State(app): State<App>,
    Ruma {
        who,
        req,
        body,
        peer,
    }: Ruma<change_password::Request>,
) -> Result<change_password::Response, MatrixError> {
    let Some(who) = who else {
        if !reset::is_possible(&app) {
            return Err(MatrixError::missing_token());
        }
        reset::set_password(&app, &req, peer).await?;
        return Ok(change_password::Response::new());
    };
    let act = Act {
        what: "change_password",
        to: "",
        body: &body,
        lately_will_do: false,
    };
    uia::confirm(&app, &who, act, (req.auth.as_ref(), peer)).await?;
    let turn = Turn::of(&app, peer);
    let hash = app.passwords.hash(&req.new_password, turn).await?;
    let ends = if req.logout_devices {
        Ends::Others(who.device()?)
    } else {
        Ends::Nothing
    };
    app.store.set_password(who.user, &hash, ends).await?;
    Ok(change_password::Response::new())
}
