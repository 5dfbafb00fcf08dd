//! What those who administer the server make of accounts, and learn of them
//! (<https://spec.matrix.org/v1.19/client-server-api/#server-administration>).

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson};
use rhizome_storage::{Account, AccountFlag};
use ruma::{
    UserId,
    api::client::admin::{
        get_user_info::v3 as get_whois, is_user_locked::v1 as is_locked,
        is_user_suspended::v1 as is_suspended, lock_user::v1 as lock, suspend_user::v1 as suspend,
    },
};
use serde_json::{Map, Value, json};

use crate::{App, Caller, Ruma};

/// `GET /_matrix/client/v1/admin/lock/{userId}`
pub async fn get_lock(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<is_locked::Request>,
) -> Result<is_locked::Response, MatrixError> {
    let account = subject(&app, &who, &req.user_id).await?;
    Ok(is_locked::Response::new(account.locked))
}

/// `PUT /_matrix/client/v1/admin/lock/{userId}`
pub async fn put_lock(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<lock::Request>,
) -> Result<lock::Response, MatrixError> {
    let account = subject(&app, &who, &req.user_id).await?;
    set(&app, &account, AccountFlag::Locked, req.locked).await?;
    tracing::info!(by = %who.user_id, user = %req.user_id, on = req.locked, "lock");
    Ok(lock::Response::new(req.locked))
}

/// `GET /_matrix/client/v1/admin/suspend/{userId}`
pub async fn get_suspend(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<is_suspended::Request>,
) -> Result<is_suspended::Response, MatrixError> {
    let account = subject(&app, &who, &req.user_id).await?;
    Ok(is_suspended::Response::new(account.suspended))
}

/// `PUT /_matrix/client/v1/admin/suspend/{userId}`
pub async fn put_suspend(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<suspend::Request>,
) -> Result<suspend::Response, MatrixError> {
    let account = subject(&app, &who, &req.user_id).await?;
    set(&app, &account, AccountFlag::Suspended, req.suspended).await?;
    tracing::info!(by = %who.user_id, user = %req.user_id, on = req.suspended, "suspension");
    Ok(suspend::Response::new(req.suspended))
}

/// The account that who administers the server wants to do something about. First of all whether they do, so that nobody
/// else learns whether there is such.
async fn subject(app: &App, who: &Caller, user_id: &UserId) -> Result<Account, MatrixError> {
    if !administers(app, who).await? {
        return Err(MatrixError::forbidden(
            "You are not an administrator of this server",
        ));
    }
    let account = ours(app, user_id).await?;
    if account.admin {
        return Err(MatrixError::forbidden(
            "The account is an administrator's: only the server's operator can do that",
        ));
    }
    Ok(account)
}

/// Whether who makes a request does: not an application service, whomever it acts for.
async fn administers(app: &App, who: &Caller) -> Result<bool, MatrixError> {
    if who.service.is_some() {
        return Ok(false);
    }
    let account = app.store.account(&who.user_id).await?;
    Ok(account.is_some_and(|account| account.admin && !account.deactivated))
}

/// A user's account, if it is one of this server's and hasn't ended.
async fn ours(app: &App, user_id: &UserId) -> Result<Account, MatrixError> {
    if user_id.server_name() != app.config.server_name {
        return Err(MatrixError::invalid_param(
            "The user doesn't belong to this server",
        ));
    }
    let account = app.store.account(user_id).await?;
    account
        .filter(|account| !account.deactivated)
        .ok_or_else(no_account)
}

async fn set(app: &App, account: &Account, flag: AccountFlag, on: bool) -> Result<(), MatrixError> {
    if app.store.set_account_flag(account.user, flag, on).await? {
        return Ok(());
    }
    // It has ended meanwhile.
    Err(no_account())
}

fn no_account() -> MatrixError {
    MatrixError::not_found("There is no such account")
}

/// `GET /_matrix/client/v3/admin/whois/{userId}`
///
/// Of a device it is kept from where it was seen last, and when; not by which program.
pub async fn whois(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<get_whois::Request>,
) -> Result<RawJson, MatrixError> {
    if req.user_id != who.user_id && !administers(&app, &who).await? {
        return Err(MatrixError::forbidden(
            "Only administrators of this server may ask about others",
        ));
    }
    let account = ours(&app, &req.user_id).await?;
    let mut devices = Map::new();
    for device in app.store.devices(account.user).await? {
        let mut connection = json!({ "last_seen": device.last_seen_ms });
        if let Some(ip) = device.last_seen_ip {
            connection["ip"] = ip.into();
        }
        let sessions = json!({ "sessions": [{ "connections": [connection] }] });
        devices.insert(device.device_id.to_string(), sessions);
    }
    RawJson::of(&json!({ "user_id": req.user_id, "devices": Value::Object(devices) }))
}
