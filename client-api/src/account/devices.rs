//! A user's devices.

use std::net::Ipv4Addr;

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{Content, MatrixError};
use rhizome_storage::StoredDevice;
use ruma::{
    MilliSecondsSinceUnixEpoch, UInt,
    api::client::device::{
        Device, delete_device::v3 as delete, delete_devices::v3 as delete_many,
        get_device::v3 as get, get_devices::v3 as list, update_device::v3 as update,
    },
};
use serde_json::json;

use crate::{
    App, Ruma,
    auth::{
        session,
        uia::{self, Act},
    },
};

/// `GET /_matrix/client/v3/devices`
pub async fn list(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<list::Request>,
) -> Result<list::Response, MatrixError> {
    let devices = app.store.devices(who.user).await?;
    Ok(list::Response::new(
        devices.into_iter().map(shown).collect(),
    ))
}

/// `GET /_matrix/client/v3/devices/{deviceId}`
pub async fn get(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<get::Request>,
) -> Result<get::Response, MatrixError> {
    let device = app
        .store
        .device(who.user, &req.device_id)
        .await?
        .ok_or_else(no_such_device)?;
    Ok(get::Response::new(shown(device)))
}

/// `PUT /_matrix/client/v3/devices/{deviceId}`
///
/// An application service makes devices so, which have no tokens.
pub async fn update(
    State(app): State<App>,
    Ruma { who, req, peer, .. }: Ruma<update::Request>,
) -> Result<Content, MatrixError> {
    let device = req.device_id;
    if let Some(name) = &req.display_name {
        session::check_device_name(name)?;
    }
    // Another request may make it meanwhile.
    for _ in 0..2 {
        let is_there = match &req.display_name {
            Some(name) => app.store.rename_device(who.user, &device, name).await?,
            None => app.store.device(who.user, &device).await?.is_some(),
        };
        if is_there {
            return Ok(Content::json(StatusCode::OK, &json!({})));
        }
        if who.service.is_none() {
            break;
        }
        session::check_device_id(&device)?;
        session::check_no_key(&app, who.user, &device).await?;
        let ip = peer.unwrap_or(Ipv4Addr::UNSPECIFIED.into()).to_string();
        let made = app
            .store
            .add_device(who.user, &device, req.display_name.clone(), Some(ip));
        if made.await? {
            return Ok(Content::json(StatusCode::CREATED, &json!({})));
        }
    }
    Err(no_such_device())
}

/// `DELETE /_matrix/client/v3/devices/{deviceId}`
pub async fn delete(
    State(app): State<App>,
    Ruma {
        who,
        req,
        body,
        peer,
    }: Ruma<delete::Request>,
) -> Result<delete::Response, MatrixError> {
    let act = Act {
        what: "delete_device",
        to: req.device_id.as_str(),
        body: &body,
        lately_will_do: true,
    };
    uia::confirm(&app, &who, act, (req.auth.as_ref(), peer)).await?;
    app.store.remove_devices(who.user, &[req.device_id]).await?;
    Ok(delete::Response::new())
}

/// `POST /_matrix/client/v3/delete_devices`
pub async fn delete_many(
    State(app): State<App>,
    Ruma {
        who,
        req,
        body,
        peer,
    }: Ruma<delete_many::Request>,
) -> Result<delete_many::Response, MatrixError> {
    let act = Act {
        what: "delete_devices",
        to: "",
        body: &body,
        lately_will_do: true,
    };
    uia::confirm(&app, &who, act, (req.auth.as_ref(), peer)).await?;
    app.store.remove_devices(who.user, &req.devices).await?;
    Ok(delete_many::Response::new())
}

fn shown(stored: StoredDevice) -> Device {
    let mut device = Device::new(stored.device_id);
    device.display_name = stored.name;
    device.last_seen_ip = stored.last_seen_ip;
    device.last_seen_ts = UInt::try_from(stored.last_seen_ms)
        .ok()
        .map(MilliSecondsSinceUnixEpoch);
    device
}

fn no_such_device() -> MatrixError {
    MatrixError::not_found("There is no such device")
}
