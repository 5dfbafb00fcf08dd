//! `GET /_matrix/client/v3/keys/changes`: what `/sync` tells of devices, by itself.

use axum::extract::State;
use rhizome_federation::RawJson;
use ruma::api::client::keys::get_key_changes::v3;
use serde_json::json;

use super::{Ask, Reader, position};
use crate::{App, MatrixError, Ruma, place::token::Token, view::seen::Viewer};

/// `GET /_matrix/client/v3/keys/changes`
///
/// What has changed after `to` is told too: who looks at a list again sees what it is now.
pub async fn changes(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<v3::Request>,
) -> Result<RawJson, MatrixError> {
    Token::parse(&req.to)
        .map_err(|_| MatrixError::invalid_param("`to` is not a token of this server"))?;
    // Of a token from before a restore nobody knows what has changed since: everything may have.
    let since = position(&app.store, &req.from).await?;
    let mut reader = Reader::new(app, Viewer::of(&who), Ask::default(), since);
    let (changed, left) = reader.devices().await?;
    RawJson::of(&json!({ "changed": changed, "left": left }))
}
