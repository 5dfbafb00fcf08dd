//! Keys are deleted from a backup, the current one or another.

use axum::extract::State;
use rhizome_edge::RawJson;
use ruma::api::client::backup::{
    delete_backup_keys, delete_backup_keys_for_room, delete_backup_keys_for_session,
};

use super::{changed, number};
use crate::{App, MatrixError, Ruma};

/// `DELETE /_matrix/client/v3/room_keys/keys`
pub async fn rooms(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<delete_backup_keys::v3::Request>,
) -> Result<RawJson, MatrixError> {
    let version = number(&req.version)?;
    changed(app.store.empty_backup(who.user, version).await?)
}

/// `DELETE /_matrix/client/v3/room_keys/keys/{roomId}`
pub async fn room(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<delete_backup_keys_for_room::v3::Request>,
) -> Result<RawJson, MatrixError> {
    let version = number(&req.version)?;
    let room = req.room_id.as_str();
    let deleted = app.store.delete_backup_room(who.user, version, room);
    changed(deleted.await?)
}

/// `DELETE /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
pub async fn session(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<delete_backup_keys_for_session::v3::Request>,
) -> Result<RawJson, MatrixError> {
    let version = number(&req.version)?;
    let (room, session) = (req.room_id.as_str(), &req.session_id);
    let deleted = app
        .store
        .delete_backup_session(who.user, version, room, session);
    changed(deleted.await?)
}
