//! Backups themselves: begun, looked at, signed anew, deleted.

use axum::extract::State;
use rhizome_edge::{Binary, Body, RawJson};
use rhizome_protocol::canonical::parse_object;
use rhizome_storage::{Backup, BackupError};
use ruma::api::client::backup::{
    create_backup_version, delete_backup_version, get_backup_info, get_latest_backup_info,
    update_backup_version,
};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

use super::{find, number};
use crate::{App, MatrixError, Ruma};

/// The longest name of an algorithm, in bytes.
const MAX_ALGORITHM: usize = 255;
/// The most bytes of what an algorithm needs to know: a key, and a signature of each of the user's devices.
const MAX_AUTH_DATA: usize = 64 << 10;

/// What a client says of a backup.
#[derive(Deserialize)]
pub struct Described {
    algorithm: String,
    auth_data: Box<RawValue>,
    version: Option<String>,
}

impl Described {
    /// `auth_data` stays as it came: clients have signed it.
    fn check(&self) -> Result<(), MatrixError> {
        if self.algorithm.is_empty() || self.algorithm.len() > MAX_ALGORITHM {
            return Err(MatrixError::invalid_param(format!(
                "The name of an algorithm has 1 to {MAX_ALGORITHM} bytes"
            )));
        }
        let data = self.auth_data.get();
        if data.len() > MAX_AUTH_DATA {
            return Err(MatrixError::too_large(format!(
                "`auth_data` has at most {MAX_AUTH_DATA} bytes"
            )));
        }
        parse_object(data.as_bytes())
            .map(drop)
            .map_err(|error| MatrixError::bad_json(format!("auth_data: {error}")))
    }
}

/// `POST /_matrix/client/v3/room_keys/version`
pub async fn begin(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Body<create_backup_version::v3::Request, Described>>,
) -> Result<RawJson, MatrixError> {
    let new = req.body;
    new.check()?;
    let begun = app
        .store
        .create_backup(who.user, &new.algorithm, new.auth_data.get());
    RawJson::of(&json!({ "version": begun.await?.to_string() }))
}

/// `GET /_matrix/client/v3/room_keys/version`
pub async fn current(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<get_latest_backup_info::v3::Request>,
) -> Result<RawJson, MatrixError> {
    let current = app.store.backup(who.user, None).await?;
    shown(&current.ok_or(BackupError::Absent)?)
}

/// `GET /_matrix/client/v3/room_keys/version/{version}`
pub async fn get(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<get_backup_info::v3::Request>,
) -> Result<RawJson, MatrixError> {
    shown(&find(&app, who.user, &req.version).await?)
}

/// `PUT /_matrix/client/v3/room_keys/version/{version}`
pub async fn update(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Binary<update_backup_version::v3::Request>>,
) -> Result<RawJson, MatrixError> {
    let version = req.head.path.first().map_or("", String::as_str);
    let new: Described =
        serde_json::from_slice(&body).map_err(|error| MatrixError::of_json(&error))?;
    new.check()?;
    if new.version.as_ref().is_some_and(|named| named != version) {
        return Err(MatrixError::invalid_param(
            "The version in the body isn't that of the path",
        ));
    }
    let version = number(version)?;
    app.store
        .update_backup(who.user, version, &new.algorithm, new.auth_data.get())
        .await?;
    RawJson::of(&json!({}))
}

/// `DELETE /_matrix/client/v3/room_keys/version/{version}`
pub async fn delete(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<delete_backup_version::v3::Request>,
) -> Result<RawJson, MatrixError> {
    let version = number(&req.version)?;
    app.store.delete_backup(who.user, version).await?;
    RawJson::of(&json!({}))
}

/// What clients are told of a backup.
#[derive(Serialize)]
struct Shown<'a> {
    algorithm: &'a str,
    auth_data: &'a RawValue,
    count: usize,
    etag: String,
    version: String,
}

fn shown(backup: &Backup) -> Result<RawJson, MatrixError> {
    let auth_data: &RawValue = serde_json::from_str(&backup.auth_data).map_err(|error| {
        tracing::error!(%error, "the description of a backup can't be read");
        MatrixError::internal()
    })?;
    RawJson::of(&Shown {
        algorithm: &backup.algorithm,
        auth_data,
        count: backup.holds.count,
        etag: backup.holds.etag.to_string(),
        version: backup.version.to_string(),
    })
}
