//! Previews of links (<https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url>).

use axum::extract::State;
use futures_util::future::BoxFuture;
use http::header;
use rhizome_edge::{Binary, Caller, Head, MatrixError, RawJson, Ruma};
use rhizome_federation::previews::Previews;
use ruma::{
    UserId,
    api::client::{authenticated_media, media},
};

use super::download::decode;
use crate::App;

/// Whoever visits links.
pub trait LinkPreviews: Send + Sync + 'static {
    /// What is told of a link, as JSON. `language`: which languages the user reads, as `Accept-Language` says it.
    fn preview<'a>(
        &'a self,
        user: &'a UserId,
        link: &'a str,
        language: Option<&'a str>,
    ) -> BoxFuture<'a, Result<RawJson, MatrixError>>;
}

impl LinkPreviews for Previews {
    fn preview<'a>(
        &'a self,
        user: &'a UserId,
        link: &'a str,
        language: Option<&'a str>,
    ) -> BoxFuture<'a, Result<RawJson, MatrixError>> {
        Box::pin(self.preview(user, link, language))
    }
}

/// `GET /_matrix/client/v1/media/preview_url`
pub async fn preview(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Binary<authenticated_media::get_media_preview::v1::Request>>,
) -> Result<RawJson, MatrixError> {
    let asked: authenticated_media::get_media_preview::v1::Request = decode(&req.head)?;
    answer(&app, &who, &asked.url, &req.head).await
}

/// `GET /_matrix/media/v3/preview_url`
#[expect(deprecated, reason = "clients use it")]
pub async fn preview_as_once(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Binary<media::get_media_preview::v3::Request>>,
) -> Result<RawJson, MatrixError> {
    let asked: media::get_media_preview::v3::Request = decode(&req.head)?;
    answer(&app, &who, &asked.url, &req.head).await
}

async fn answer(app: &App, who: &Caller, link: &str, head: &Head) -> Result<RawJson, MatrixError> {
    let previews = app.files.previews.as_ref();
    let previews = previews.ok_or_else(MatrixError::unrecognized)?;
    let language = head.parts.headers.get(header::ACCEPT_LANGUAGE);
    let language = language.and_then(|language| language.to_str().ok());
    previews.preview(&who.user_id, link, language).await
}
