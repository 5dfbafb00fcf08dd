//! Application services make accounts, which nobody else can log in to
//! (<https://spec.matrix.org/v1.19/application-service-api/#server-admin-style-permissions>).

use std::net::IpAddr;

use rhizome_edge::{MatrixError, RawJson, Shown};
use rhizome_storage::NewAccount;
use ruma::api::client::account::register::v3 as register;

use crate::{
    App,
    account::users,
    auth::{
        acting,
        session::{self, Beginning, SessionRequest},
    },
    user_ids::{require_allowed, require_small},
};

/// `POST /_matrix/client/v3/register` of type `m.login.application_service`.
///
/// # Errors
/// 401 `M_MISSING_TOKEN`, `M_UNKNOWN_TOKEN`; 400 `M_EXCLUSIVE` for a user who isn't the service's, `M_USER_IN_USE`,
/// `M_INVALID_USERNAME`; `M_APPSERVICE_LOGIN_UNSUPPORTED` if it wants a session and isn't to log in.
pub(super) async fn register(
    app: &App,
    shown: Shown,
    req: register::Request,
    peer: Option<IpAddr>,
) -> Result<RawJson, MatrixError> {
    let service = acting::shown_service(app, shown)?;
    let username = req
        .username
        .ok_or_else(|| MatrixError::missing_param("A username is required"))?;
    require_small(&username)?;
    let user_id = users::user_id(&app.config.server_name, &username)?;
    acting::require_theirs(app, &service, &user_id)?;
    require_allowed(&app.store, &user_id).await?;
    users::require_unused(&app.store, &user_id).await?;
    let beginning = if req.inhibit_login {
        None
    } else {
        acting::require_login(&service)?;
        let request = SessionRequest {
            device_id: req.device_id,
            device_name: req.initial_device_display_name,
            refreshable: req.refresh_token,
            ..SessionRequest::default()
        };
        Some(Beginning::new(app, request, peer)?)
    };
    let (session, login) = beginning.map(|new| (new.session, new.login)).unzip();
    let account = NewAccount {
        created_ms: app.store.clock().now_ms(),
        display_name: app.config.registration_rules.first_name(&user_id),
        ..NewAccount::default()
    };
    let made = app.store.create_account(&user_id, account, login).await?;
    made.ok_or_else(users::in_use)?;
    RawJson::of(&session::answer(app, &user_id, session))
}
