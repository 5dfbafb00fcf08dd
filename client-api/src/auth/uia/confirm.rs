//! Users show that what they want to do with their account is what they want: each time, or now and then.

use std::net::IpAddr;

use rhizome_edge::MatrixError;
use rhizome_storage::millis;
use ruma::{DeviceId, api::client::uiaa::AuthData};
use serde_json::Value;

use super::{Asking, EXPIRED, pass, purpose::Act, purpose::Purpose, stage::Proofs, stage::Stage};
use crate::{App, Caller, auth::acting};

/// What application services may do without a proof.
const BY_SERVICES: [&str; 3] = ["delete_device", "delete_devices", "device_signing"];
/// The end of an account.
pub(crate) const DEACTIVATE: &str = "deactivate";

/// Passes when the user who makes a request has proved that it is them.
///
/// # Errors
/// 401 with the flows and a session, until that is so; with `errcode` when an attempt failed. 403 for an application service
/// that mustn't do it.
pub(crate) async fn confirm(
    app: &App,
    who: &Caller,
    act: Act<'_>,
    (auth, peer): (Option<&AuthData>, Option<IpAddr>),
) -> Result<(), MatrixError> {
    if who.service.is_some() {
        return by_service(app, who, act.what);
    }
    if act.lately_will_do && has_lately(app, who).await? {
        return Ok(());
    }
    let purpose = Purpose::act(&who.user_id, act).by(who.device_id.as_deref());
    let passed = pass(app, &purpose, (auth, peer)).await?;
    if let Some(session) = &passed.session
        && !app.store.end_uia_session(&session.id).await?
    {
        // Another request was first: what was proved is good once.
        let asking = Asking::new(app, &purpose, peer).await?;
        let session = asking.begin().await?;
        return Err(asking.challenge(&session.id, &Proofs::default(), Some(EXPIRED)));
    }
    match who.device_id.as_deref() {
        Some(device) => remember(app, who, device, &passed.proofs).await,
        None => Ok(()),
    }
}

/// What application services do for their users, who have nothing to prove anything by
/// (<https://spec.matrix.org/v1.19/application-service-api/#device-management>). Whatever else is managed of an account is
/// its owner's; a user who is the service's alone it may do away with.
///
/// # Errors
/// 403 `M_FORBIDDEN`
fn by_service(app: &App, who: &Caller, what: &str) -> Result<(), MatrixError> {
    let may = BY_SERVICES.contains(&what)
        || (what == DEACTIVATE && acting::owns(app, who) && !acting::is_sender(app, who));
    if may {
        return Ok(());
    }
    let message = "Application services can't do this for their users";
    Err(MatrixError::forbidden(message))
}

/// Whether whose it is was proved on the same device, in the same session, and so lately that the operator wants no more.
async fn has_lately(app: &App, who: &Caller) -> Result<bool, MatrixError> {
    let window = app.config.reauthentication_window;
    let Some(device) = who.device_id.as_deref().filter(|_| !window.is_zero()) else {
        return Ok(false);
    };
    let proved = app.store.proved_ms(who.user, device).await?;
    let now = app.store.clock().now_ms();
    // The clock of another process may be a little ahead.
    let lately = |at: i64| now.saturating_sub(at).saturating_abs() < millis(window);
    Ok(proved.is_some_and(lately))
}

/// What was proved counts from when it was, on the device that goes on with it, if the operator wants that.
async fn remember(
    app: &App,
    who: &Caller,
    device: &DeviceId,
    proofs: &Proofs,
) -> Result<(), MatrixError> {
    if app.config.reauthentication_window.is_zero() {
        return Ok(());
    }
    let by_password = proofs.of(Stage::Password);
    let Some(proof) = by_password.or_else(|| proofs.of(Stage::Jwt)) else {
        return Ok(());
    };
    let mark = proof.get("mark").and_then(Value::as_str);
    let Some(at_ms) = proof.get("at_ms").and_then(Value::as_i64) else {
        return Ok(());
    };
    if by_password.is_some() && mark.is_none() {
        return Ok(());
    }
    // If that isn't true any more, nothing is written: what was asked for goes on as it would without.
    app.store.prove((who.user, device), mark, at_ms).await?;
    Ok(())
}
