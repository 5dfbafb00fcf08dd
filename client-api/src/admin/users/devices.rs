//! Devices of users.

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{Content, MatrixError, RawJson, Undecoded};
use rhizome_storage::StoredDevice;
use ruma::{DeviceId, OwnedDeviceId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    App, Ruma,
    admin::{asked, endpoint::endpoints, subject},
    auth::session,
};

endpoints! {
    /// `GET`: a user's devices.
    GetDevices: GET "/_synapse/admin/v2/users/{user_id}/devices";
    /// `POST`: makes one without a session.
    PostDevice: POST "/_synapse/admin/v2/users/{user_id}/devices";
    /// `GET`: one of them.
    GetDevice: GET "/_synapse/admin/v2/users/{user_id}/devices/{device_id}";
    /// `PUT`: names it.
    PutDevice: PUT "/_synapse/admin/v2/users/{user_id}/devices/{device_id}";
    /// `DELETE`: logs it out.
    DeleteDevice: DELETE "/_synapse/admin/v2/users/{user_id}/devices/{device_id}";
    /// `POST`: logs several out.
    PostDeleteDevices: POST "/_synapse/admin/v2/users/{user_id}/delete_devices";
}

/// `GET /_synapse/admin/v2/users/{userId}/devices`
pub async fn list(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetDevices>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, account) = subject::account(&app, req.part(0)).await?;
    let dehydrated = app.store.dehydrated_device(account.user).await?;
    let dehydrated = dehydrated.map(|device| device.device);
    let devices = app.store.devices(account.user).await?;
    let shown = devices.iter().map(|device| {
        let mut shown = shown(&user_id, device);
        shown["dehydrated"] = (dehydrated.as_ref() == Some(&device.device_id)).into();
        shown
    });
    let shown: Vec<Value> = shown.collect();
    RawJson::of(&json!({ "devices": shown, "total": devices.len() }))
}

#[derive(Deserialize)]
struct NewDevice {
    device_id: OwnedDeviceId,
}

/// `POST /_synapse/admin/v2/users/{userId}/devices`
///
/// It has no tokens: nobody is logged in by it until its user logs in as it. That it is there already is fine.
pub async fn add(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<PostDevice>>,
) -> Result<Content, MatrixError> {
    let (user_id, account) = subject::living(&app, req.part(0)).await?;
    let NewDevice { device_id } = asked::body(&body)?;
    session::check_device_id(&device_id)?;
    session::check_no_key(&app, account.user, &device_id).await?;
    let (store, user) = (&app.store, account.user);
    if store.add_device(user, &device_id, None, None).await? {
        tracing::info!(by = %who.user_id, user = %user_id, "a device was made");
    }
    Ok(Content::json(StatusCode::CREATED, &json!({})))
}

/// `GET /_synapse/admin/v2/users/{userId}/devices/{deviceId}`
pub async fn get(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetDevice>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, account) = subject::account(&app, req.part(0)).await?;
    let id = <&DeviceId>::from(req.part(1));
    let device = app.store.device(account.user, id).await?;
    RawJson::of(&shown(&user_id, &device.ok_or_else(no_device)?))
}

#[derive(Deserialize)]
struct Update {
    display_name: Option<String>,
}

/// `PUT /_synapse/admin/v2/users/{userId}/devices/{deviceId}`
pub async fn update(
    State(app): State<App>,
    Ruma { req, body, .. }: Ruma<Undecoded<PutDevice>>,
) -> Result<RawJson, MatrixError> {
    let (_, account) = subject::account(&app, req.part(0)).await?;
    let id = <&DeviceId>::from(req.part(1));
    let Update { display_name } = asked::body(&body)?;
    let is_there = match display_name {
        Some(name) => {
            session::check_device_name(&name)?;
            app.store.rename_device(account.user, id, &name).await?
        }
        None => app.store.device(account.user, id).await?.is_some(),
    };
    if !is_there {
        return Err(no_device());
    }
    RawJson::of(&json!({}))
}

/// `DELETE /_synapse/admin/v2/users/{userId}/devices/{deviceId}`
///
/// That there is none is fine: then it is done.
pub async fn delete(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<DeleteDevice>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, account) = subject::account(&app, req.part(0)).await?;
    let id: OwnedDeviceId = req.part(1).into();
    app.store.remove_devices(account.user, &[id]).await?;
    tracing::info!(by = %who.user_id, user = %user_id, "a device was logged out");
    RawJson::of(&json!({}))
}

#[derive(Deserialize)]
struct Several {
    devices: Vec<OwnedDeviceId>,
}

/// `POST /_synapse/admin/v2/users/{userId}/delete_devices`
pub async fn delete_several(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<PostDeleteDevices>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, account) = subject::account(&app, req.part(0)).await?;
    let Several { devices } = asked::body(&body)?;
    app.store.remove_devices(account.user, &devices).await?;
    tracing::info!(by = %who.user_id, user = %user_id, "devices were logged out");
    RawJson::of(&json!({}))
}

fn shown(user_id: &UserId, device: &StoredDevice) -> Value {
    let mut shown = json!({
        "device_id": device.device_id,
        "user_id": user_id,
        "last_seen_ip": device.last_seen_ip,
        "last_seen_ts": device.last_seen_ms,
        "last_seen_user_agent": null,
    });
    if let Some(name) = &device.name {
        shown["display_name"] = name.as_str().into();
    }
    shown
}

fn no_device() -> MatrixError {
    MatrixError::not_found("There is no such device")
}
