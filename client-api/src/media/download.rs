//! Downloads.

use std::time::Duration;

use axum::extract::State;
use rhizome_edge::{Binary, Content, Decode, Head, MatrixError, Payload, Ruma};
use ruma::{
    OwnedServerName,
    api::{
        auth_scheme::AccessTokenOptional,
        client::{
            authenticated_media::{get_content, get_content_as_filename},
            media,
        },
    },
    metadata,
};

use super::{
    answer::{self, Asking},
    find::{Asked, Asker},
};
use crate::App;

/// `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}`
pub async fn download(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Binary<get_content::v1::Request>>,
) -> Result<Content, MatrixError> {
    let asked: get_content::v1::Request = decode(&req.head)?;
    let wish = Wish {
        who: Asker::User(&who),
        origin: asked.server_name,
        media_id: asked.media_id,
        wait: asked.timeout_ms,
        allow_remote: true,
        allow_redirect: true,
        name: None,
    };
    wish.answer(&app, &req.head).await
}

/// `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}/{fileName}`
pub async fn download_as(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Binary<get_content_as_filename::v1::Request>>,
) -> Result<Content, MatrixError> {
    let asked: get_content_as_filename::v1::Request = decode(&req.head)?;
    let wish = Wish {
        who: Asker::User(&who),
        origin: asked.server_name,
        media_id: asked.media_id,
        wait: asked.timeout_ms,
        allow_remote: true,
        allow_redirect: true,
        name: Some(asked.filename),
    };
    wish.answer(&app, &req.head).await
}

/// `GET /_matrix/media/v3/download/{serverName}/{mediaId}`, and as older clients spell it.
pub struct Once;
metadata! {
    @for Once,
    method: GET,
    rate_limited: true,
    authentication: AccessTokenOptional,
    history: {
        unstable => "/_matrix/media/v1/download/{server_name}/{media_id}",
        1.0 => "/_matrix/media/r0/download/{server_name}/{media_id}",
        1.1 => "/_matrix/media/v3/download/{server_name}/{media_id}",
    }
}

/// `GET /_matrix/media/v3/download/{serverName}/{mediaId}`
#[expect(deprecated, reason = "it is served to who may still use it")]
pub async fn download_as_once(
    State(app): State<App>,
    Ruma { who, req, peer, .. }: Ruma<Binary<Once>>,
) -> Result<Content, MatrixError> {
    let asked: media::get_content::v3::Request = decode(&req.head)?;
    let wish = Wish {
        who: Asker::of(who.as_ref(), peer),
        origin: asked.server_name,
        media_id: asked.media_id,
        wait: asked.timeout_ms,
        allow_remote: asked.allow_remote,
        allow_redirect: asked.allow_redirect,
        name: None,
    };
    wish.answer(&app, &req.head).await
}

/// `GET /_matrix/media/v3/download/{serverName}/{mediaId}/{fileName}`, and as older clients spell it.
pub struct OnceNamed;
metadata! {
    @for OnceNamed,
    method: GET,
    rate_limited: true,
    authentication: AccessTokenOptional,
    history: {
        unstable => "/_matrix/media/v1/download/{server_name}/{media_id}/{filename}",
        1.0 => "/_matrix/media/r0/download/{server_name}/{media_id}/{filename}",
        1.1 => "/_matrix/media/v3/download/{server_name}/{media_id}/{filename}",
    }
}

/// `GET /_matrix/media/v3/download/{serverName}/{mediaId}/{fileName}`
#[expect(deprecated, reason = "it is served to who may still use it")]
pub async fn download_named_as_once(
    State(app): State<App>,
    Ruma { who, req, peer, .. }: Ruma<Binary<OnceNamed>>,
) -> Result<Content, MatrixError> {
    let asked: media::get_content_as_filename::v3::Request = decode(&req.head)?;
    let wish = Wish {
        who: Asker::of(who.as_ref(), peer),
        origin: asked.server_name,
        media_id: asked.media_id,
        wait: asked.timeout_ms,
        allow_remote: asked.allow_remote,
        allow_redirect: asked.allow_redirect,
        name: Some(asked.filename),
    };
    wish.answer(&app, &req.head).await
}

/// What path and query of a request say.
pub(super) fn decode<T: Decode>(head: &Head) -> Result<T, MatrixError> {
    let head = Head {
        parts: head.parts.clone(),
        path: head.path.clone(),
    };
    T::decode(head, &mut Payload::Whole(bytes::Bytes::new()))
}

/// A download.
struct Wish<'a> {
    who: Asker<'a>,
    origin: OwnedServerName,
    media_id: String,
    wait: Duration,
    allow_remote: bool,
    /// Whether the client may be sent elsewhere: where tokens are needed it always may
    /// (<https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediadownloadservernamemediaid>).
    allow_redirect: bool,
    /// What it is to be called, whatever its uploader has called it.
    name: Option<String>,
}

impl Wish<'_> {
    async fn answer(self, app: &App, head: &Head) -> Result<Content, MatrixError> {
        let asked = Asked {
            who: self.who,
            origin: &self.origin,
            media_id: &self.media_id,
            wait: self.wait,
            allow_remote: self.allow_remote,
        };
        let mut content = asked.file(app).await?;
        if self.name.is_some() {
            content.info.name = self.name;
        }
        let asking = Asking {
            parts: &head.parts,
            who: self.who,
            may_redirect: self.allow_redirect,
        };
        answer::file(app, asking, content).await
    }
}
