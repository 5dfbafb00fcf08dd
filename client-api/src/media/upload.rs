//! Uploads.

use axum::extract::State;
use bytes::Bytes;
use http::StatusCode;
use rhizome_edge::{Content, Decode, Head, MatrixError, Payload, RawJson, Ruma, Streamed, Upload};
use rhizome_media::{NewFile, Resumable, UploadError};
use ruma::api::client::media::{create_content, create_content_async, create_mxc_uri};
use serde_json::json;

use super::{
    incoming::{pieces, told},
    names, resumable,
};
use crate::App;

/// So many bytes has a body at most that says nothing.
const NOTHING: usize = 64 << 10;

/// `POST /_matrix/media/v3/upload`
pub async fn upload(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Streamed<create_content::v3::Request>>,
) -> Result<Content, MatrixError> {
    let blurhash = wants_blurhash(req.head.parts.uri.query());
    let begins = resumable::begins(&req.head.parts.headers)?;
    let asked: create_content::v3::Request = head_of(req.head)?;
    let mut file = NewFile {
        content_type: asked.content_type.as_deref(),
        name: asked.filename.as_deref(),
        announced: req.upload.announced(),
    };
    if let Some(begins) = begins {
        file.announced = begins.length;
        let fills = None;
        let new = Resumable {
            file,
            fills,
            blurhash,
        };
        return resumable::begin(&app, who.user, new, req.upload).await;
    }
    let media = &app.files.media;
    let uploaded = media.upload(Some(who.user), file, pieces(req.upload));
    let uploaded = uploaded.await.map_err(refused)?;
    Ok(told(&app, &uploaded.media_id, blurhash).await)
}

/// Whether a client wants to know what its picture looks like from far away
/// ([MSC2448](https://github.com/matrix-org/matrix-spec-proposals/pull/2448)).
fn wants_blurhash(query: Option<&str>) -> bool {
    let mut asked = query.unwrap_or_default().split('&');
    asked.any(|one| one == "xyz.amorgan.generate_blurhash=true")
}

/// `POST /_matrix/media/v1/create`
pub async fn create(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Streamed<create_mxc_uri::v1::Request>>,
) -> Result<RawJson, MatrixError> {
    pass_over(req.upload).await?;
    let created = app.files.media.create(who.user).await?;
    let uri = names::uri(&app.config.server_name, &created.media_id);
    RawJson::of(&json!({ "content_uri": uri, "unused_expires_at": created.expires_at }))
}

/// `PUT /_matrix/media/v3/upload/{serverName}/{mediaId}`
pub async fn fill(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Streamed<create_content_async::v3::Request>>,
) -> Result<Content, MatrixError> {
    let begins = resumable::begins(&req.head.parts.headers)?;
    let asked: create_content_async::v3::Request = head_of(req.head)?;
    let ours = &app.config.server_name;
    names::check(ours, &asked.server_name, &asked.media_id)?;
    if asked.server_name != *ours {
        let message = "Files of other servers can't be uploaded here";
        return Err(MatrixError::not_found(message));
    }
    let mut file = NewFile {
        content_type: asked.content_type.as_deref(),
        name: asked.filename.as_deref(),
        announced: req.upload.announced(),
    };
    if let Some(begins) = begins {
        file.announced = begins.length;
        let new = Resumable {
            file,
            fills: Some(&asked.media_id),
            blurhash: false,
        };
        return resumable::begin(&app, who.user, new, req.upload).await;
    }
    let media = &app.files.media;
    let filled = media.fill(who.user, &asked.media_id, file, pieces(req.upload));
    filled.await.map_err(refused)?;
    Ok(Content::json(StatusCode::OK, &json!({})))
}

/// Reads a body that says nothing. It counts as an upload, but isn't as long as one.
async fn pass_over(mut body: Upload) -> Result<(), MatrixError> {
    let mut left = NOTHING;
    while let Some(piece) = body.next().await? {
        let Some(less) = left.checked_sub(piece.len()) else {
            return Err(MatrixError::too_large("This request needs no body"));
        };
        left = less;
    }
    Ok(())
}

/// What a request says beside its body.
fn head_of<T: Decode>(head: Head) -> Result<T, MatrixError> {
    T::decode(head, &mut Payload::Whole(Bytes::new()))
}

fn refused(error: UploadError<MatrixError>) -> MatrixError {
    match error {
        UploadError::Body(error) => error,
        UploadError::Media(error) => error.into(),
    }
}
