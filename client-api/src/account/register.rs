//! Registration.

use std::net::IpAddr;

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson};
use rhizome_storage::{UiaSession, random};
use ruma::api::client::{
    account::{
        check_registration_token_validity::v1 as validity,
        get_username_availability::v3 as availability,
        register::{LoginType, RegistrationKind, v3 as register},
    },
    uiaa::AuthData,
};

use crate::{
    App, Ruma,
    account::{
        by_service, guests,
        registering::{Making, Proved, Registering},
        upgrading, users,
    },
    auth::{
        session::{self, SessionRequest},
        uia::{self, Purpose},
    },
    config::Registration,
};

/// `POST /_matrix/client/v3/register`
pub async fn register(
    State(app): State<App>,
    Ruma { who, req, peer, .. }: Ruma<register::Request>,
) -> Result<RawJson, MatrixError> {
    match req.kind {
        RegistrationKind::User => {}
        RegistrationKind::Guest => {
            let (user_id, session) = guests::register(&app, req, peer).await?;
            return RawJson::of(&session::answer(&app, &user_id, Some(session)));
        }
        _ => return Err(MatrixError::invalid_param("kind is either user or guest")),
    }
    match req.login_type {
        None => {}
        Some(LoginType::ApplicationService) => {
            return by_service::register(&app, who, req, peer).await;
        }
        Some(_) => {
            let message = "The type of a registration is m.login.application_service, or none";
            return Err(MatrixError::invalid_param(message));
        }
    }
    require_open(&app)?;
    if let Some(token) = &req.guest_access_token {
        return upgrading::upgrade(&app, &req, token, peer).await;
    }
    let session = req.auth.as_ref().and_then(AuthData::session);
    let before = Registering::of(&app, Making::Account, session, req.username.as_deref()).await?;
    let registering = match before {
        Some(before) => before,
        None => first_time(&app, &req, peer).await?,
    };
    let Some(password) = &req.password else {
        return Err(MatrixError::missing_param("A password is required"));
    };
    let first = SessionRequest {
        device_id: Some(registering.device_id.clone()),
        device_name: req.initial_device_display_name,
        refreshable: req.refresh_token,
        by_password: true,
        ..SessionRequest::default()
    };
    let first = (!req.inhibit_login).then_some(first);
    let user_id = registering.user_id.clone();
    let session = registering.account(&app, password, first, peer).await?;
    RawJson::of(&session::answer(&app, &user_id, session))
}

/// What a new registration is about, once its stages are complete. Its session remembers that.
async fn first_time(
    app: &App,
    req: &register::Request,
    peer: Option<IpAddr>,
) -> Result<Registering, MatrixError> {
    let user_id = if let Some(username) = &req.username {
        let user_id = users::user_id(&app.config.server_name, username)?;
        users::require_permitted(app, &user_id)?;
        user_id
    } else {
        let name = random::letters(b"abcdefghijklmnopqrstuvwxyz234567", 12)?;
        let user_id = users::user_id(&app.config.server_name, &name)?;
        users::require_nobodys(app, &user_id)?;
        user_id
    };
    let device_id = session::device_id(req.device_id.clone())?;
    users::require_free(&app.store, &user_id).await?;
    let purpose = Purpose::registration(&app.config);
    let auth = req.auth.as_ref();
    let passed = match uia::pass(app, &purpose, (auth, peer)).await {
        Ok(passed) => passed,
        Err(refusal) => {
            // The same request came twice, and the other one was so much faster that the session isn't one of stages
            // any more.
            let session = auth.and_then(AuthData::session);
            let before =
                Registering::of(app, Making::Account, session, req.username.as_deref()).await?;
            return before.ok_or(refusal);
        }
    };
    if req.password.is_none() {
        return Err(MatrixError::missing_param("A password is required"));
    }
    let id = passed.session.as_ref().map(|session| session.id.as_str());
    let mut registering = Registering {
        making: Making::Account,
        user_id,
        device_id,
        again: false,
        session: None,
        proved: Proved::of(app, id, &passed.proofs),
    };
    let Some(session) = &passed.session else {
        return Ok(registering);
    };
    let (next, proofs) = (registering.purpose(), passed.proofs.text());
    if app.store.move_uia_session(session, &next, &proofs).await? {
        registering.session = Some(UiaSession {
            purpose: next,
            completed: proofs,
            ..session.clone()
        });
        return Ok(registering);
    }
    // The same request came twice, and the other one was faster: it is about the account that that one makes.
    let before = Registering::of(app, Making::Account, id, req.username.as_deref()).await?;
    before.ok_or_else(users::in_use)
}

/// `GET /_matrix/client/v3/register/available`
pub async fn available(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<availability::Request>,
) -> Result<availability::Response, MatrixError> {
    require_open(&app)?;
    let user_id = users::user_id(&app.config.server_name, &req.username)?;
    users::require_permitted(&app, &user_id)?;
    users::require_free(&app.store, &user_id).await?;
    Ok(availability::Response::new(true))
}

/// `GET /_matrix/client/v1/register/m.login.registration_token/validity`
pub async fn token_validity(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<validity::Request>,
) -> Result<validity::Response, MatrixError> {
    require_open(&app)?;
    let holds = app.store.registration_token_holds(&req.token).await?;
    Ok(validity::Response::new(holds))
}

fn require_open(app: &App) -> Result<(), MatrixError> {
    match app.config.registration {
        Registration::Open | Registration::Token => Ok(()),
        Registration::Closed => Err(MatrixError::forbidden(
            "Registration is closed on this server; ask its operator for an account",
        )),
    }
}
