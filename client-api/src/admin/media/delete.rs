//! Files that are deleted by their age: of this server, or kept of others. What is protected or in quarantine stays.

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_storage::MediaQuery;
use serde_json::json;

use crate::{
    App, Caller, Ruma,
    admin::{asked::Asked, endpoint::endpoints},
};

endpoints! {
    /// `POST`: deletes files of this server that nobody has asked for since a moment.
    PostOld: POST "/_synapse/admin/v1/media/delete";
    /// `POST`: the same, as it was called once.
    PostOldAsOnce: POST "/_synapse/admin/v1/media/{server_name}/delete";
    /// `POST`: deletes what is kept of other servers.
    PostRemote: POST "/_synapse/admin/v1/purge_media_cache";
}

/// The end of 1970, in milliseconds: whoever names a moment before means seconds.
const TOO_EARLY: i64 = 30_000_000_000;
/// Of more files the ids aren't told.
const TOLD: usize = 10_000;

fn before(asked: &Asked) -> Result<i64, MatrixError> {
    let before = asked.some_number("before_ts")?;
    if before < TOO_EARLY {
        return Err(MatrixError::invalid_param(
            "before_ts is in 1970: it is in milliseconds",
        ));
    }
    Ok(before)
}

/// `POST /_synapse/admin/v1/media/delete`
pub async fn old(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<PostOld>>,
) -> Result<RawJson, MatrixError> {
    delete(&app, &who, &Asked::of(&req)).await
}

/// `POST /_synapse/admin/v1/media/{serverName}/delete`
pub async fn old_as_once(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<PostOldAsOnce>>,
) -> Result<RawJson, MatrixError> {
    if app.config.server_name.as_str() != req.part(0) {
        return Err(MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_UNKNOWN",
            "Only files of this server are deleted so",
        ));
    }
    delete(&app, &who, &Asked::of(&req)).await
}

async fn delete(app: &App, who: &Caller, asked: &Asked) -> Result<RawJson, MatrixError> {
    let size = asked.number("size_gt")?.unwrap_or(0);
    let which = MediaQuery {
        remote: Some(false),
        accessed_before: Some(before(asked)?),
        larger_than: u64::try_from(size).ok(),
        not_quarantined: true,
        no_pictures: asked.flag("keep_profiles")?.unwrap_or(true),
        ..MediaQuery::default()
    };
    let mut told = Vec::new();
    let deleted = app.files.media.delete_told(&which, &mut told, TOLD).await?;
    tracing::info!(by = %who.user_id, deleted, "old files were deleted");
    RawJson::of(&json!({ "deleted_media": told, "total": deleted }))
}

/// `POST /_synapse/admin/v1/purge_media_cache`
pub async fn remote(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<PostRemote>>,
) -> Result<RawJson, MatrixError> {
    let which = MediaQuery {
        remote: Some(true),
        accessed_before: Some(before(&Asked::of(&req))?),
        not_quarantined: true,
        ..MediaQuery::default()
    };
    let deleted = app.files.media.delete_all(&which).await?;
    tracing::info!(by = %who.user_id, deleted, "files of other servers were deleted");
    RawJson::of(&json!({ "deleted": deleted }))
}
