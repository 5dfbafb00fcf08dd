//! Registration.

use std::net::IpAddr;

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson};
use rhizome_storage::random;
use ruma::api::client::{
    account::{
        get_username_availability::v3 as availability,
        register::{RegistrationKind, v3 as register},
    },
    uiaa::AuthData,
};

use crate::{
    App, Ruma,
    account::{guests, registering::Registering, users},
    auth::{
        session::{self, SessionRequest},
        uia::{self, Stage},
    },
    config::Registration,
};

/// `POST /_matrix/client/v3/register`
pub async fn register(
    State(app): State<App>,
    Ruma { req, peer, .. }: Ruma<register::Request>,
) -> Result<RawJson, MatrixError> {
    match req.kind {
        RegistrationKind::User => {}
        RegistrationKind::Guest => {
            let (user_id, session) = guests::register(&app, req, peer).await?;
            return RawJson::of(&session::answer(&app, &user_id, Some(session)));
        }
        _ => return Err(MatrixError::invalid_param("kind is either user or guest")),
    }
    if req.login_type.is_some() {
        return Err(MatrixError::forbidden(
            "This server has no application services",
        ));
    }
    require_open(&app)?;
    if let Some(token) = &req.guest_access_token {
        return upgrade(&app, &req, token, peer).await;
    }
    let session = req.auth.as_ref().and_then(AuthData::session);
    let before = Registering::of(&app, session, req.username.as_deref()).await?;
    let registering = match before {
        Some(before) => before,
        None => first_time(&app, &req).await?,
    };
    let Some(password) = &req.password else {
        return Err(MatrixError::missing_param("A password is required"));
    };
    let first = SessionRequest {
        device_id: Some(registering.device_id.clone()),
        device_name: req.initial_device_display_name,
        refreshable: req.refresh_token,
        proof: None,
    };
    let first = (!req.inhibit_login).then_some(first);
    let session = registering.account(&app, password, first, peer).await?;
    RawJson::of(&session::answer(&app, &registering.user_id, session))
}

/// A guest's account becomes one like others.
async fn upgrade(
    app: &App,
    req: &register::Request,
    token: &str,
    peer: Option<IpAddr>,
) -> Result<RawJson, MatrixError> {
    let guest = guests::upgrading(app, token, req.username.as_deref()).await?;
    let purpose = format!("upgrade {}", guest.user_id);
    uia::require(app, &purpose, Stage::Dummy, req.auth.as_ref()).await?;
    let Some(password) = &req.password else {
        return Err(MatrixError::missing_param("A password is required"));
    };
    let hash = app.passwords.hash(password).await?;
    if !app.store.upgrade_guest(guest.user, &hash).await? {
        return Err(users::in_use());
    }
    let session = if req.inhibit_login {
        None
    } else {
        let first = SessionRequest {
            device_id: req.device_id.clone(),
            device_name: req.initial_device_display_name.clone(),
            refreshable: req.refresh_token,
            proof: Some(hash),
        };
        Some(session::begin(app, guest.user, first, peer).await?)
    };
    RawJson::of(&session::answer(app, &guest.user_id, session))
}

/// What a new registration is about, once its stage is complete. Its session remembers that.
async fn first_time(app: &App, req: &register::Request) -> Result<Registering, MatrixError> {
    let username = match &req.username {
        Some(username) => username.clone(),
        None => random::letters(b"abcdefghijklmnopqrstuvwxyz234567", 12)?,
    };
    let registering = Registering {
        user_id: users::user_id(&app.config.server_name, &username)?,
        device_id: session::device_id(req.device_id.clone())?,
        again: false,
    };
    users::require_free(&app.store, &registering.user_id).await?;
    if req.auth.is_some() && req.password.is_none() {
        return Err(MatrixError::missing_param("A password is required"));
    }
    let next = registering.purpose();
    let auth = req.auth.as_ref();
    uia::require_then(app, "register", Stage::Dummy, auth, Some(&next)).await?;
    Ok(registering)
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
