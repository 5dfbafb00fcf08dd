//! What clients are told of uploads.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Ruma};
use ruma::api::client::{authenticated_media, media};
use serde_json::json;

use crate::App;

/// `GET /_matrix/client/v1/media/config`
pub async fn get(
    State(app): State<App>,
    Ruma { .. }: Ruma<authenticated_media::get_media_config::v1::Request>,
) -> Result<RawJson, MatrixError> {
    settings(&app)
}

/// `GET /_matrix/media/v3/config`
#[expect(deprecated, reason = "clients use it")]
pub async fn get_as_once(
    State(app): State<App>,
    Ruma { .. }: Ruma<media::get_media_config::v3::Request>,
) -> Result<RawJson, MatrixError> {
    settings(&app)
}

fn settings(app: &App) -> Result<RawJson, MatrixError> {
    let most = app.files.media.config().max_upload_size;
    RawJson::of(&json!({ "m.upload.size": most }))
}
