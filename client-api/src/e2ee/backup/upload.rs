//! Keys go into a backup.

use std::net::IpAddr;

use axum::extract::State;
use rhizome_edge::{RawJson, Streamed};
use rhizome_storage::{BackupState, UserNo};
use ruma::api::{
    Metadata,
    client::backup::{add_backup_keys, add_backup_keys_for_room, add_backup_keys_for_session},
};
use serde::Deserialize;
use tokio::{runtime::Handle, task::spawn_blocking};

use super::{
    changed, number,
    parse::{For, Keys},
};
use crate::{App, MatrixError, Ruma};

/// What is made of a body takes about as much memory as the body, twice.
const COPIES: usize = 3;
/// Parsing more than this is kept away from the threads that everybody shares.
const LONG: usize = 256 << 10;

/// `PUT /_matrix/client/v3/room_keys/keys`
pub async fn rooms(
    State(app): State<App>,
    Ruma { who, req, peer, .. }: Ruma<Streamed<add_backup_keys::v3::Request>>,
) -> Result<RawJson, MatrixError> {
    upload(app, who.user, For::Rooms, req, peer).await
}

/// `PUT /_matrix/client/v3/room_keys/keys/{roomId}`
pub async fn room(
    State(app): State<App>,
    Ruma {
        who, mut req, peer, ..
    }: Ruma<Streamed<add_backup_keys_for_room::v3::Request>>,
) -> Result<RawJson, MatrixError> {
    let whose = match req.head.path.as_mut_slice() {
        [room] => For::Room(std::mem::take(room)),
        _ => return Err(MatrixError::unrecognized()),
    };
    upload(app, who.user, whose, req, peer).await
}

/// `PUT /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
pub async fn session(
    State(app): State<App>,
    Ruma {
        who, mut req, peer, ..
    }: Ruma<Streamed<add_backup_keys_for_session::v3::Request>>,
) -> Result<RawJson, MatrixError> {
    let whose = match req.head.path.as_mut_slice() {
        [room, session] => For::Session(std::mem::take(room), std::mem::take(session)),
        _ => return Err(MatrixError::unrecognized()),
    };
    upload(app, who.user, whose, req, peer).await
}

#[derive(Deserialize)]
struct Asked {
    version: String,
}

async fn upload<T: Metadata>(
    app: App,
    user: UserNo,
    whose: For,
    req: Streamed<T>,
    peer: Option<IpAddr>,
) -> Result<RawJson, MatrixError> {
    let asked = axum::extract::Query::try_from_uri(&req.head.parts.uri);
    let Asked { version } = asked
        .map_err(|_| MatrixError::missing_param("`version` says which backup it is"))?
        .0;
    let version = number(&version)?;
    let reserve = || Some(app.bodies.reservation(peer));
    let (body, mut reserved) = req.upload.whole(reserve).await?;
    if let Some(reserved) = &mut reserved
        && !reserved.grow_to(body.len().saturating_mul(COPIES))
    {
        return Err(MatrixError::limit_exceeded(1_000));
    }
    let long = body.len() > LONG;
    let put = async move {
        let keys = Keys::parse(&whose, &body)?;
        let sessions = keys.checked()?;
        let put = app.store.put_backup_sessions(user, version, sessions);
        Ok::<BackupState, MatrixError>(put.await?)
    };
    let state = if long {
        // What is parsed borrows from the body, so that the thread that parses goes on with it.
        let here = Handle::current();
        let put = spawn_blocking(move || here.block_on(put));
        put.await.map_err(|_| MatrixError::internal())??
    } else {
        put.await?
    };
    changed(state)
}
