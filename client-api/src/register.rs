//! Registration.

use axum::extract::State;
use http::StatusCode;
use rhizome_federation::{MatrixError, RawJson};
use ruma::api::client::account::{
    get_username_availability::v3 as availability,
    register::{RegistrationKind, v3 as register},
};
use serde_json::json;

use crate::{
    App, Ruma,
    config::Registration,
    limits::Kind,
    random,
    uia::{self, Stage},
    users::{self, SessionRequest},
};

/// `POST /_matrix/client/v3/register`
pub async fn register(
    State(app): State<App>,
    Ruma { req, peer, .. }: Ruma<register::Request>,
) -> Result<RawJson, MatrixError> {
    match req.kind {
        RegistrationKind::User => {}
        RegistrationKind::Guest => {
            return Err(MatrixError::new(
                StatusCode::FORBIDDEN,
                "M_GUEST_ACCESS_FORBIDDEN",
                "This server has no guest accounts",
            ));
        }
        _ => return Err(MatrixError::invalid_param("kind is either user or guest")),
    }
    if req.login_type.is_some() {
        return Err(MatrixError::forbidden(
            "This server has no application services",
        ));
    }
    require_open(&app)?;
    if let Some(username) = &req.username {
        users::require_free(
            &app.store,
            &users::user_id(&app.config.server_name, username)?,
        )
        .await?;
    }
    uia::require(&app, "register", Stage::Dummy, req.auth.as_ref()).await?;
    let Some(password) = &req.password else {
        return Err(MatrixError::missing_param("A password is required"));
    };
    let username = match req.username {
        Some(username) => username,
        None => random::name::<12>(b"abcdefghijklmnopqrstuvwxyz234567")?,
    };
    // Only what makes an account counts, not the questions before it.
    app.limits
        .take_from(Kind::Registration, peer, app.now_monotonic_ms())
        .map_err(MatrixError::limit_exceeded)?;
    let user_id = users::create_user(&app, &username, password, false).await?;
    if req.inhibit_login {
        return RawJson::of(&json!({ "user_id": user_id }));
    }
    let request = SessionRequest {
        device_id: req.device_id,
        device_name: req.initial_device_display_name,
        refreshable: req.refresh_token,
        proof: None,
    };
    RawJson::of(&begun(&app, &user_id, request, peer).await?)
}

/// Begins the first session of a new account: the answer to its registration.
pub(crate) async fn begun(
    app: &App,
    user_id: &ruma::UserId,
    request: SessionRequest,
    peer: std::net::IpAddr,
) -> Result<serde_json::Value, MatrixError> {
    let Some(account) = app.store.account(user_id).await? else {
        return Err(MatrixError::internal());
    };
    let session = users::begin_session(app, account.user, request, peer).await?;
    let mut answer = json!({
        "user_id": user_id,
        "home_server": app.config.server_name,
        "device_id": session.device_id,
        "access_token": session.access_token,
    });
    if let Some(refresh_token) = session.refresh_token {
        answer["refresh_token"] = refresh_token.into();
        answer["expires_in_ms"] = session.expires_in_ms.into();
    }
    Ok(answer)
}

/// `GET /_matrix/client/v3/register/available`
pub async fn available(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<availability::Request>,
) -> Result<availability::Response, MatrixError> {
    require_open(&app)?;
    users::require_free(
        &app.store,
        &users::user_id(&app.config.server_name, &req.username)?,
    )
    .await?;
    Ok(availability::Response::new(true))
}

fn require_open(app: &App) -> Result<(), MatrixError> {
    match app.config.registration {
        Registration::Open => Ok(()),
        Registration::Closed => Err(MatrixError::forbidden(
            "Registration is closed on this server; ask its operator for an account",
        )),
    }
}
