//! Uploads.

use axum::extract::State;
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::StatusCode;
use rhizome_edge::{Decode, Head, MatrixError, Payload, RawJson, Ruma, Streamed, Upload};
use rhizome_media::{NewFile, UploadError};
use ruma::api::client::media::{create_content, create_content_async, create_mxc_uri};
use serde_json::json;

use super::names;
use crate::App;

/// `POST /_matrix/media/v3/upload`
pub async fn upload(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Streamed<create_content::v3::Request>>,
) -> Result<RawJson, MatrixError> {
    let asked: create_content::v3::Request = head_of(req.head)?;
    let file = NewFile {
        content_type: asked.content_type.as_deref(),
        name: asked.filename.as_deref(),
        announced: req.upload.announced(),
    };
    let media = &app.files.media;
    let uploaded = media.upload(Some(who.user), file, pieces(req.upload));
    let uploaded = uploaded.await.map_err(refused)?;
    let uri = names::uri(&app.config.server_name, &uploaded.media_id);
    RawJson::of(&json!({ "content_uri": uri }))
}

/// `POST /_matrix/media/v1/create`
pub async fn create(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<create_mxc_uri::v1::Request>,
) -> Result<RawJson, MatrixError> {
    let created = app.files.media.create(who.user).await?;
    let uri = names::uri(&app.config.server_name, &created.media_id);
    RawJson::of(&json!({ "content_uri": uri, "unused_expires_at": created.expires_at }))
}

/// `PUT /_matrix/media/v3/upload/{serverName}/{mediaId}`
pub async fn fill(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Streamed<create_content_async::v3::Request>>,
) -> Result<RawJson, MatrixError> {
    let asked: create_content_async::v3::Request = head_of(req.head)?;
    names::check(&asked.server_name, &asked.media_id)?;
    if asked.server_name != app.config.server_name {
        let message = "Files of other servers can't be uploaded here";
        return Err(MatrixError::not_found(message));
    }
    let file = NewFile {
        content_type: asked.content_type.as_deref(),
        name: asked.filename.as_deref(),
        announced: req.upload.announced(),
    };
    let media = &app.files.media;
    let filled = media.fill(who.user, &asked.media_id, file, pieces(req.upload));
    filled.await.map_err(refused)?;
    RawJson::of(&json!({}))
}

/// What a request says beside its body.
fn head_of<T: Decode>(head: Head) -> Result<T, MatrixError> {
    T::decode(head, &mut Payload::Whole(Bytes::new()))
}

/// The file, piece by piece. One that hasn't the length that was announced isn't whole.
fn pieces(upload: Upload) -> impl Stream<Item = Result<Bytes, MatrixError>> + Send {
    let announced = upload.announced();
    stream::try_unfold((upload, 0), move |(mut upload, came)| async move {
        match upload.next().await? {
            Some(piece) => {
                let came = came + piece.len() as u64;
                Ok(Some((piece, (upload, came))))
            }
            None if announced.is_some_and(|announced| announced != came) => {
                let message = "The upload has another length than was announced";
                let status = StatusCode::BAD_REQUEST;
                Err(MatrixError::new(status, "M_UNKNOWN", message))
            }
            None => Ok(None),
        }
    })
}

fn refused(error: UploadError<MatrixError>) -> MatrixError {
    match error {
        UploadError::Body(error) => error,
        UploadError::Media(error) => error.into(),
    }
}
