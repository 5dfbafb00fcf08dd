//! What users may do: whether they administer the server, are suspended, or are shown to nobody.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_storage::{Account, AccountFlag, Block, UserNo};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    App, Ruma,
    admin::{asked, endpoint::endpoints, subject},
};

endpoints! {
    /// `GET`: whether a user administers the server.
    GetAdmin: GET "/_synapse/admin/v1/users/{user_id}/admin";
    /// `PUT`: makes a user an administrator, or one no longer.
    PutAdmin: PUT "/_synapse/admin/v1/users/{user_id}/admin";
    /// `PUT`: suspends an account, or takes that back.
    PutSuspend: PUT "/_synapse/admin/v1/suspend/{user_id}";
    /// `POST`: what a user sends is shown to nobody from now on.
    PostShadow: POST "/_synapse/admin/v1/users/{user_id}/shadow_ban";
    /// `DELETE`: it is shown again.
    DeleteShadow: DELETE "/_synapse/admin/v1/users/{user_id}/shadow_ban";
    /// `GET`: from where a user's devices were there.
    GetWhois: GET "/_synapse/admin/v1/whois/{user_id}";
}

#[derive(Deserialize)]
struct Admin {
    admin: bool,
}

/// `GET /_synapse/admin/v1/users/{userId}/admin`
pub async fn get_admin(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetAdmin>>,
) -> Result<RawJson, MatrixError> {
    let (_, account) = subject::account(&app, req.part(0)).await?;
    RawJson::of(&json!({ "admin": account.admin && !account.deactivated }))
}

/// `PUT /_synapse/admin/v1/users/{userId}/admin`
pub async fn put_admin(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<PutAdmin>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, account) = subject::living(&app, req.part(0)).await?;
    let Admin { admin } = asked::body(&body)?;
    if !admin {
        subject::not_oneself(&who, &user_id, "demote")?;
    }
    set(&app, account.user, AccountFlag::Admin, admin).await?;
    tracing::info!(by = %who.user_id, user = %user_id, on = admin, "administrator");
    RawJson::of(&json!({}))
}

#[derive(Deserialize)]
struct Suspend {
    suspend: bool,
}

/// `PUT /_synapse/admin/v1/suspend/{userId}`
pub async fn suspend(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<PutSuspend>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, account) = subject::living(&app, req.part(0)).await?;
    let Suspend { suspend } = asked::body(&body)?;
    if suspend {
        subject::no_administrator(&account)?;
    }
    set(&app, account.user, AccountFlag::Suspended, suspend).await?;
    tracing::info!(by = %who.user_id, user = %user_id, on = suspend, "suspension");
    let mut answer = Map::new();
    answer.insert(format!("user_{user_id}_suspended"), suspend.into());
    RawJson::of(&Value::Object(answer))
}

async fn set(app: &App, user: UserNo, flag: AccountFlag, on: bool) -> Result<(), MatrixError> {
    if app.store.set_account_flag(user, flag, on).await? {
        return Ok(());
    }
    // It has ended meanwhile.
    Err(subject::no_user())
}

/// `POST /_synapse/admin/v1/users/{userId}/shadow_ban`
pub async fn shadow_ban(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<PostShadow>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, account) = subject::living(&app, req.part(0)).await?;
    subject::no_administrator(&account)?;
    let block = Block {
        kind: Block::SHADOW.to_owned(),
        what: user_id.to_string(),
        way: String::new(),
        reason: format!("by {}", who.user_id),
        since_ms: app.store.clock().now_ms(),
        blocked: true,
    };
    app.store.block(block).await?;
    tracing::info!(by = %who.user_id, user = %user_id, "shadow-banned");
    RawJson::of(&json!({}))
}

/// `DELETE /_synapse/admin/v1/users/{userId}/shadow_ban`
pub async fn end_shadow_ban(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<DeleteShadow>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, _) = subject::account(&app, req.part(0)).await?;
    app.store.unblock(Block::SHADOW, user_id.as_str()).await?;
    tracing::info!(by = %who.user_id, user = %user_id, "shadow-banned no longer");
    RawJson::of(&json!({}))
}

/// `GET /_synapse/admin/v1/whois/{userId}`
///
/// Devices stand side by side under an empty name, as tools expect it; of one it is kept from where it was seen last, and
/// when, not by which program.
pub async fn whois(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetWhois>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, account): (_, Account) = subject::account(&app, req.part(0)).await?;
    let devices = app.store.devices(account.user).await?;
    let connections = devices.iter().map(|device| {
        json!({ "ip": device.last_seen_ip, "last_seen": device.last_seen_ms, "user_agent": null })
    });
    let connections: Vec<Value> = connections.collect();
    let devices = json!({ "": { "sessions": [{ "connections": connections }] } });
    RawJson::of(&json!({ "user_id": user_id, "devices": devices }))
}
