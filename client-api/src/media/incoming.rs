//! What all uploads have in common: how they are read, and what is told of them.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::StatusCode;
use rhizome_edge::{Content, MatrixError, Upload};
use serde_json::json;

use super::names;
use crate::App;

/// What is told of a file that is there.
pub(super) async fn told(app: &App, media_id: &str, blurhash: bool) -> Content {
    let uri = names::uri(&app.config.server_name, media_id);
    let mut answer = json!({ "content_uri": uri });
    if blurhash && let Some(blurhash) = blur(app, media_id).await {
        answer["xyz.amorgan.blurhash"] = blurhash.into();
    }
    Content::json(StatusCode::OK, &answer)
}

/// The blur of a picture. Of what has none there is none: the file was uploaded all the same.
async fn blur(app: &App, media_id: &str) -> Option<String> {
    let media = &app.files.media;
    let found = media.find(&app.config.server_name, media_id, Duration::ZERO);
    let blurred = async { media.blurhash(&found.await?).await };
    blurred
        .await
        .inspect_err(|error| tracing::debug!(%error, "a file has no blur"))
        .ok()
}

/// The file, piece by piece. One that hasn't the length that was announced isn't whole.
pub(super) fn pieces(upload: Upload) -> impl Stream<Item = Result<Bytes, MatrixError>> + Send {
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
