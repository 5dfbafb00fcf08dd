//! A guest's account becomes one like others, by what it takes others to register. Whose answer got lost asks again, as in a
//! registration (`registering.rs`).

use std::net::IpAddr;

use rhizome_edge::{MatrixError, RawJson};
use rhizome_storage::{Account, UiaSession};
use ruma::api::client::{account::register::v3 as register, uiaa::AuthData};

use crate::{
    App,
    account::{
        guests,
        registering::{Making, Proved, Registering},
        users,
    },
    auth::{
        password::Turn,
        session::{self, Session, SessionRequest},
        standing,
        uia::{self, Purpose},
    },
    limits::Kind,
};

/// Answers a registration that comes with a guest's token.
///
/// # Errors
/// Those of a registration, and of [`guests::upgrading`].
pub(super) async fn upgrade(
    app: &App,
    req: &register::Request,
    token: &str,
    peer: Option<IpAddr>,
) -> Result<RawJson, MatrixError> {
    let upgrading = match before(app, req).await? {
        Some(before) => before,
        None => match first_time(app, req, token, peer).await {
            Ok(first) => first,
            // The same request came twice, and the other one was so much faster that the guest is none any more.
            Err(refusal) => before(app, req).await?.ok_or(refusal)?,
        },
    };
    let Some(password) = &req.password else {
        return Err(MatrixError::missing_param("A password is required"));
    };
    let first = SessionRequest {
        device_id: Some(upgrading.device_id.clone()),
        device_name: req.initial_device_display_name.clone(),
        refreshable: req.refresh_token,
        by_password: true,
        ..SessionRequest::default()
    };
    let first = ((!req.inhibit_login).then_some(first), peer);
    let session = match made(&upgrading, app).await? {
        Some(account) => upgrading.log_in(app, account, password, first).await?,
        None => become_user(&upgrading, app, (token, password), first).await?,
    };
    RawJson::of(&session::answer(app, &upgrading.user_id, session))
}

/// What an earlier request with this session was about.
async fn before(app: &App, req: &register::Request) -> Result<Option<Registering>, MatrixError> {
    let session = req.auth.as_ref().and_then(AuthData::session);
    // Somebody has to be named, as when a guest is.
    let Some(username) = req.username.as_deref() else {
        return Ok(None);
    };
    Registering::of(app, Making::Upgrade, session, Some(username)).await
}

/// What a new one is about, once its stages are complete. Its session remembers that.
async fn first_time(
    app: &App,
    req: &register::Request,
    token: &str,
    peer: Option<IpAddr>,
) -> Result<Registering, MatrixError> {
    let guest = guests::upgrading(app, token, req.username.as_deref(), peer).await?;
    let device_id = session::device_id(req.device_id.clone())?;
    let purpose = Purpose::upgrade(&guest.user_id, &app.config);
    let passed = uia::pass(app, &purpose, (req.auth.as_ref(), peer)).await?;
    if req.password.is_none() {
        return Err(MatrixError::missing_param("A password is required"));
    }
    let id = passed.session.as_ref().map(|session| session.id.as_str());
    let mut upgrading = Registering {
        making: Making::Upgrade,
        user_id: guest.user_id,
        device_id,
        again: false,
        session: None,
        proved: Proved::of(app, id, &passed.proofs),
    };
    let Some(session) = passed.session else {
        return Ok(upgrading);
    };
    let (next, proofs) = (upgrading.purpose(), passed.proofs.text());
    if !app.store.move_uia_session(&session, &next, &proofs).await? {
        // The same request came twice, and the other one was faster.
        return before(app, req).await?.ok_or_else(users::in_use);
    }
    upgrading.session = Some(UiaSession {
        purpose: next,
        completed: proofs,
        ..session
    });
    Ok(upgrading)
}

/// The account that an earlier request with the same session has made of the guest's.
async fn made(upgrading: &Registering, app: &App) -> Result<Option<Account>, MatrixError> {
    if upgrading.session.is_none() {
        return Ok(None);
    }
    let account = app.store.account(&upgrading.user_id).await?;
    Ok(account.filter(|account| account.password_hash.is_some()))
}

/// A session for who couldn't make a guest a user, as the same request came twice and the other one was faster; else why they
/// couldn't.
async fn came_first(
    upgrading: &Registering,
    app: &App,
    password: &str,
    first: (Option<SessionRequest>, Option<IpAddr>),
    refusal: MatrixError,
) -> Result<Option<Session>, MatrixError> {
    match made(upgrading, app).await? {
        Some(account) => upgrading.log_in(app, account, password, first).await,
        None => Err(refusal),
    }
}

/// Makes the guest a user, and begins a session if one is asked for.
async fn become_user(
    upgrading: &Registering,
    app: &App,
    (token, password): (&str, &str),
    (first, peer): (Option<SessionRequest>, Option<IpAddr>),
) -> Result<Option<Session>, MatrixError> {
    let name = upgrading.user_id.localpart();
    let guest = match guests::upgrading(app, token, Some(name), peer).await {
        Ok(guest) => guest,
        Err(refusal) => return came_first(upgrading, app, password, (first, peer), refusal).await,
    };
    app.limits
        .take_from(Kind::Registration, peer, app.now_monotonic_ms())
        .map_err(MatrixError::limit_exceeded)?;
    let turn = Turn::of_newcomer(app, peer);
    let hash = app.passwords.hash(password, turn).await?;
    let admission = upgrading.proved.admission.clone();
    let own = &upgrading.proved.third_parties;
    let (waits, takes_token) = (admission.awaits_approval, admission.token.is_some());
    let upgraded = app.store.upgrade_guest(guest.user, &hash, own, admission);
    if !upgraded.await? {
        let refusal = users::not_made(&app.store, own, takes_token).await?;
        return came_first(upgrading, app, password, (first, peer), refusal).await;
    }
    upgrading.proved.end(app).await?;
    if waits {
        return Err(standing::awaiting_approval());
    }
    let Some(first) = first else {
        return Ok(None);
    };
    let first = SessionRequest {
        proof: Some(hash),
        ..first
    };
    Ok(Some(session::begin(app, guest.user, first, peer).await?))
}
