//! Files that nobody gets, and those of which nobody can say that.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_storage::MediaQuery;
use serde_json::json;

use super::one::none;
use crate::{
    App, Caller, Ruma,
    admin::{endpoint::endpoints, subject},
    media::names,
};

endpoints! {
    /// `POST`: sees to it that nobody gets a file, nor others with the same bytes.
    PostQuarantine: POST "/_synapse/admin/v1/media/quarantine/{server_name}/{media_id}";
    /// `POST`: gives it again.
    PostUnquarantine: POST "/_synapse/admin/v1/media/unquarantine/{server_name}/{media_id}";
    /// `POST`: sees to it that nobody gets the files that were sent to a room.
    PostOfRoom: POST "/_synapse/admin/v1/room/{room_id}/media/quarantine";
    /// `POST`: the same, as it was called once.
    PostOfRoomAsOnce: POST "/_synapse/admin/v1/quarantine_media/{room_id}";
    /// `POST`: sees to it that nobody gets what a user has uploaded.
    PostOfUser: POST "/_synapse/admin/v1/user/{user_id}/media/quarantine";
    /// `POST`: protects a file of this server.
    PostProtect: POST "/_synapse/admin/v1/media/protect/{media_id}";
    /// `POST`: protects it no longer.
    PostUnprotect: POST "/_synapse/admin/v1/media/unprotect/{media_id}";
}

/// `POST /_synapse/admin/v1/media/quarantine/{serverName}/{mediaId}`
///
/// A file of another server needn't be here to be kept back.
pub async fn quarantine(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<PostQuarantine>>,
) -> Result<RawJson, MatrixError> {
    let (server, media_id) = (subject::server(req.part(0))?, req.part(1));
    names::check(&app.config.server_name, &server, media_id)?;
    let name = (server.as_str(), media_id);
    if !app.files.media.quarantine(name, true).await? {
        return match app.files.media.row(name.0, name.1).await? {
            Some(_) => Err(MatrixError::forbidden("The file is protected")),
            None => Err(none()),
        };
    }
    tracing::info!(by = %who.user_id, %server, media_id, "a file was quarantined");
    RawJson::of(&json!({}))
}

/// `POST /_synapse/admin/v1/media/unquarantine/{serverName}/{mediaId}`
pub async fn unquarantine(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<PostUnquarantine>>,
) -> Result<RawJson, MatrixError> {
    let (server, media_id) = (subject::server(req.part(0))?, req.part(1));
    names::check(&app.config.server_name, &server, media_id)?;
    let name = (server.as_str(), media_id);
    if !app.files.media.quarantine(name, false).await? {
        return Err(none());
    }
    tracing::info!(by = %who.user_id, %server, media_id, "a file is given again");
    RawJson::of(&json!({}))
}

/// `POST /_synapse/admin/v1/room/{roomId}/media/quarantine`
pub async fn quarantine_of_room(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<PostOfRoom>>,
) -> Result<RawJson, MatrixError> {
    of_room(&app, &who, req.part(0)).await
}

/// `POST /_synapse/admin/v1/quarantine_media/{roomId}`
pub async fn quarantine_of_room_as_once(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<PostOfRoomAsOnce>>,
) -> Result<RawJson, MatrixError> {
    of_room(&app, &who, req.part(0)).await
}

/// What others have only named there isn't touched: anybody can name any file.
async fn of_room(app: &App, who: &Caller, room: &str) -> Result<RawJson, MatrixError> {
    let head = subject::room(app, room).await?;
    let count = app.files.media.quarantine_of_room(head.room).await?;
    tracing::info!(by = %who.user_id, room = %head.room_id, count, "a room's files were quarantined");
    RawJson::of(&json!({ "num_quarantined": count }))
}

/// `POST /_synapse/admin/v1/user/{userId}/media/quarantine`
pub async fn quarantine_of_user(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<PostOfUser>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, account) = subject::account(&app, req.part(0)).await?;
    let which = MediaQuery {
        owner: Some(account.user),
        ..MediaQuery::default()
    };
    let count = app.files.media.quarantine_all(&which).await?;
    tracing::info!(by = %who.user_id, user = %user_id, count, "a user's files were quarantined");
    RawJson::of(&json!({ "num_quarantined": count }))
}

/// `POST /_synapse/admin/v1/media/protect/{mediaId}`
pub async fn protect(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<PostProtect>>,
) -> Result<RawJson, MatrixError> {
    set_protected(&app, &who, req.part(0), true).await
}

/// `POST /_synapse/admin/v1/media/unprotect/{mediaId}`
pub async fn unprotect(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<PostUnprotect>>,
) -> Result<RawJson, MatrixError> {
    set_protected(&app, &who, req.part(0), false).await
}

async fn set_protected(
    app: &App,
    who: &Caller,
    media_id: &str,
    protected: bool,
) -> Result<RawJson, MatrixError> {
    let name = (app.config.server_name.as_str(), media_id);
    if !app.files.media.protect(name, protected).await? {
        return Err(none());
    }
    tracing::info!(by = %who.user_id, media_id, protected, "a file was protected, or is no longer");
    RawJson::of(&json!({}))
}
