//! Backups of room keys: `/room_keys`
//! (<https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups>).
//!
//! A body of keys has at most [`MAX_BODY`] bytes. It is read whole before the database hears of it, since nobody
//! may wait for a slow client there; memory for it is reserved as it comes, and what is parsed borrows from it.
//! Answers are made page by page, however large a backup is.

pub(crate) mod delete;
mod parse;
pub(crate) mod read;
pub(crate) mod upload;
pub(crate) mod versions;

use rhizome_edge::RawJson;
use rhizome_storage::{Backup, BackupError, BackupState, UserNo};
use serde_json::json;

use crate::{App, MatrixError};

/// The largest body of keys: about fifty thousand. Clients send a hundred or two at a time.
pub(crate) const MAX_BODY: usize = 64 << 20;
/// Memory for such bodies and what is made of them, of all requests and of one address.
pub(crate) const MEMORY: (usize, usize) = (256 << 20, 200 << 20);

/// The number of a version; one that isn't written as we write it there has never been.
fn number(version: &str) -> Result<i64, BackupError> {
    let number: Option<i64> = version.parse().ok();
    let number = number.filter(|number| number.to_string() == version);
    number.ok_or(BackupError::Absent)
}

/// A user's backup with this version.
async fn find(app: &App, user: UserNo, version: &str) -> Result<Backup, MatrixError> {
    let found = app.store.backup(user, Some(number(version)?)).await?;
    Ok(found.ok_or(BackupError::Absent)?)
}

/// What is told of a backup that may have changed.
fn changed(state: BackupState) -> Result<RawJson, MatrixError> {
    RawJson::of(&json!({ "etag": state.etag.to_string(), "count": state.count }))
}
