//! One file. Some paths look like those of files of servers with odd names: what there is for a file is there, too.

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use serde_json::json;

use super::shown;
use crate::{
    App, Caller, Ruma,
    admin::{endpoint::endpoints, subject},
    config::Unauthenticated,
    media::names,
};

endpoints! {
    /// `GET`: what is known of a file.
    Get: GET "/_synapse/admin/v1/media/{server_name}/{media_id}";
    /// `DELETE`: deletes it.
    Delete: DELETE "/_synapse/admin/v1/media/{server_name}/{media_id}";
    /// `GET`: the same where the server is called like what is done.
    GetProtect: GET "/_synapse/admin/v1/media/protect/{media_id}";
    /// `DELETE`: likewise.
    DeleteProtect: DELETE "/_synapse/admin/v1/media/protect/{media_id}";
    /// `GET`: likewise.
    GetUnprotect: GET "/_synapse/admin/v1/media/unprotect/{media_id}";
    /// `DELETE`: likewise.
    DeleteUnprotect: DELETE "/_synapse/admin/v1/media/unprotect/{media_id}";
    /// `GET`: the same where the file's id is what is done.
    GetDelete: GET "/_synapse/admin/v1/media/{server_name}/delete";
    /// `DELETE`: likewise.
    DeleteDelete: DELETE "/_synapse/admin/v1/media/{server_name}/delete";
}

/// `GET /_synapse/admin/v1/media/{serverName}/{mediaId}`
pub async fn get(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<Get>>,
) -> Result<RawJson, MatrixError> {
    info(&app, req.part(0), req.part(1)).await
}

/// `DELETE /_synapse/admin/v1/media/{serverName}/{mediaId}`
pub async fn delete(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<Delete>>,
) -> Result<RawJson, MatrixError> {
    remove(&app, &who, req.part(0), req.part(1)).await
}

/// `GET /_synapse/admin/v1/media/protect/{mediaId}`
pub async fn get_of_protect(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetProtect>>,
) -> Result<RawJson, MatrixError> {
    info(&app, "protect", req.part(0)).await
}

/// `DELETE /_synapse/admin/v1/media/protect/{mediaId}`
pub async fn delete_of_protect(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<DeleteProtect>>,
) -> Result<RawJson, MatrixError> {
    remove(&app, &who, "protect", req.part(0)).await
}

/// `GET /_synapse/admin/v1/media/unprotect/{mediaId}`
pub async fn get_of_unprotect(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetUnprotect>>,
) -> Result<RawJson, MatrixError> {
    info(&app, "unprotect", req.part(0)).await
}

/// `DELETE /_synapse/admin/v1/media/unprotect/{mediaId}`
pub async fn delete_of_unprotect(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<DeleteUnprotect>>,
) -> Result<RawJson, MatrixError> {
    remove(&app, &who, "unprotect", req.part(0)).await
}

/// `GET /_synapse/admin/v1/media/{serverName}/delete`
pub async fn get_of_delete(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetDelete>>,
) -> Result<RawJson, MatrixError> {
    info(&app, req.part(0), "delete").await
}

/// `DELETE /_synapse/admin/v1/media/{serverName}/delete`
pub async fn delete_of_delete(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<DeleteDelete>>,
) -> Result<RawJson, MatrixError> {
    remove(&app, &who, req.part(0), "delete").await
}

async fn info(app: &App, server: &str, media_id: &str) -> Result<RawJson, MatrixError> {
    let server = subject::server(server)?;
    names::check(&app.config.server_name, &server, media_id)?;
    let row = app.files.media.row(server.as_str(), media_id).await?;
    let row = row.ok_or_else(none)?;
    let owner = match row.owner {
        Some(owner) => Some(app.store.user(owner).await?),
        None => None,
    };
    // Whether only who says who they are gets it.
    let authenticated = match app.config.unauthenticated_media {
        Unauthenticated::Closed => true,
        Unauthenticated::Before(time) => row.created >= time,
        Unauthenticated::Open => false,
    };
    let mut info = shown(&row);
    for (field, value) in [
        ("media_origin", json!(row.remote.then_some(&row.origin))),
        ("user_id", json!(owner)),
        ("authenticated", json!(authenticated)),
        ("url_cache", json!(null)),
        ("filesystem_id", json!(null)),
        ("sha256", json!(row.blob.as_ref().map(|blob| &blob.sha256))),
    ] {
        info[field] = value;
    }
    RawJson::of(&json!({ "media_info": info }))
}

async fn remove(
    app: &App,
    who: &Caller,
    server: &str,
    media_id: &str,
) -> Result<RawJson, MatrixError> {
    if app.config.server_name.as_str() != server {
        return Err(MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_UNKNOWN",
            "Only files of this server are deleted one by one",
        ));
    }
    let deleted = app.files.media.delete(&[(server, media_id)]).await?;
    if deleted == 0 {
        return Err(none());
    }
    tracing::info!(by = %who.user_id, media_id, "a file was deleted");
    RawJson::of(&json!({ "deleted_media": [media_id], "total": deleted }))
}

/// There is no such file.
pub fn none() -> MatrixError {
    MatrixError::not_found("There is no such file")
}
