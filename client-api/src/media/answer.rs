//! How a file is told: headers, and which of its bytes.

use std::ops::Range;

use bytes::BytesMut;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use rhizome_edge::{Content, MatrixError};
use rhizome_media::Content as Found;

use super::{
    condition,
    disposition::disposition,
    find::{Asker, of_other},
    kind::{Kind, kind},
    range::{Part, part},
};
use crate::{App, limits::Downloader};

/// Where it is shown as a page of its own, a file does nothing
/// (<https://spec.matrix.org/v1.19/client-server-api/#content-repository>).
const POLICY: &str = "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; \
                      style-src 'unsafe-inline'; object-src 'self';";

/// Who asked for a file, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) parts: &'a Parts,
    pub(super) who: Asker<'a>,
    /// Whether they may be sent to the store where it lies.
    pub(super) may_redirect: bool,
}

/// Who may keep an answer.
#[derive(Debug, Clone, Copy)]
enum Cached {
    /// The user whose token it was asked with. A file never changes.
    ByUser,
    /// Anybody on the way as well, though not for longer than it may take until a file that was deleted is gone.
    ByAnybody,
}

impl Cached {
    fn by(who: Asker<'_>) -> Self {
        match who {
            Asker::User(_) => Self::ByUser,
            Asker::Anybody(_) => Self::ByAnybody,
        }
    }

    fn header(self) -> &'static str {
        match self {
            Self::ByUser => "private, max-age=31536000, immutable",
            Self::ByAnybody => "public, max-age=86400, immutable",
        }
    }
}

/// A file.
pub(super) async fn file(
    app: &App,
    asking: Asking<'_>,
    content: Found,
) -> Result<Content, MatrixError> {
    let kind = kind(content.info.content_type.as_deref());
    let disposition = disposition(kind.is_inline, content.info.name.as_deref());
    Answer { app, asking }
        .with(&content, kind, disposition)
        .await
}

/// A picture of one, which is always shown. Which it is depends on what the client can read.
pub(super) async fn picture(
    app: &App,
    asking: Asking<'_>,
    content: Found,
) -> Result<Content, MatrixError> {
    let kind = kind(content.info.content_type.as_deref());
    let ending = match kind.header.as_bytes() {
        b"image/jpeg" => "jpg",
        b"image/gif" => "gif",
        b"image/webp" => "webp",
        _ => "png",
    };
    let disposition = disposition(kind.is_inline, Some(&format!("thumbnail.{ending}")));
    let answer = Answer { app, asking };
    let answer = answer.with(&content, kind, disposition).await?;
    Ok(answer.with(header::VARY, HeaderValue::from_static("Accept")))
}

/// An answer to somebody.
struct Answer<'a> {
    app: &'a App,
    asking: Asking<'a>,
}

impl Answer<'_> {
    async fn with(
        &self,
        content: &Found,
        kind: Kind,
        disposition: HeaderValue,
    ) -> Result<Content, MatrixError> {
        let tag = content.info.etag.as_ref().map(|etag| format!("\"{etag}\""));
        let part = self.part(content, tag.as_deref());
        if let Some((Part::None, size)) = part {
            return Ok(not_there(size));
        }
        if let Some(redirect) = self
            .redirect(content, &kind, &disposition, tag.as_deref())
            .await?
        {
            return Ok(redirect);
        }
        let answer = self.bytes(content, kind.header, tag.as_deref(), part);
        let cached = Cached::by(self.asking.who).header();
        let mut answer = answer
            .await?
            .with(header::CONTENT_DISPOSITION, disposition)
            .with(header::CACHE_CONTROL, HeaderValue::from_static(cached));
        if let Some(Ok(tag)) = tag.map(HeaderValue::try_from) {
            answer = answer.with(header::ETAG, tag);
        }
        if content.info.size.is_some() {
            answer = answer.with(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        for (name, value) in [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                "cross-origin",
            ),
            (
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                "Accept-Ranges, Content-Disposition, Content-Range, ETag",
            ),
        ] {
            answer = answer.with(name, HeaderValue::from_static(value));
        }
        Ok(answer)
    }

    /// Whether the client has it already.
    fn is_known(&self, tag: Option<&str>) -> bool {
        let known = text(&self.asking.parts.headers, header::IF_NONE_MATCH);
        known
            .zip(tag)
            .is_some_and(|(known, tag)| condition::is_known(&known, tag))
    }

    /// Where the store gives it. What is small or known is answered sooner here, and an address is signed for one method.
    async fn redirect(
        &self,
        content: &Found,
        kind: &Kind,
        disposition: &HeaderValue,
        tag: Option<&str>,
    ) -> Result<Option<Content>, MatrixError> {
        let is_large = content.is_large();
        let is_get = self.asking.parts.method == Method::GET;
        if !(self.asking.may_redirect && is_large && is_get) || self.is_known(tag) {
            return Ok(None);
        }
        let (Ok(kind), Ok(disposition)) = (kind.header.to_str(), disposition.to_str()) else {
            return Ok(None);
        };
        let address = content.redirect(kind, disposition).await?;
        let Some(address) = address.and_then(|address| HeaderValue::try_from(address).ok()) else {
            return Ok(None);
        };
        Ok(Some(
            Content::empty(StatusCode::TEMPORARY_REDIRECT)
                .with(header::LOCATION, address)
                // It soon leads nowhere, and is a key to the file until then.
                .with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
                .with(
                    header::REFERRER_POLICY,
                    HeaderValue::from_static("no-referrer"),
                ),
        ))
    }

    /// Which part of how many bytes is asked for, if one is.
    fn part(&self, content: &Found, tag: Option<&str>) -> Option<(Part, u64)> {
        if self.is_known(tag) || self.asking.parts.method == Method::HEAD {
            return None;
        }
        let (size, headers) = (content.info.size?, &self.asking.parts.headers);
        let range = text(headers, header::RANGE)?;
        is_of_use(headers, tag).then(|| (part(&range, size), size))
    }

    /// The bytes that are asked for, or that there is no need of them.
    async fn bytes(
        &self,
        content: &Found,
        kind: HeaderValue,
        tag: Option<&str>,
        part: Option<(Part, u64)>,
    ) -> Result<Content, MatrixError> {
        if self.is_known(tag) {
            return Ok(Content::empty(StatusCode::NOT_MODIFIED));
        }
        let size = content.info.size;
        if self.asking.parts.method == Method::HEAD {
            return Ok(Content::without_body(kind, size));
        }
        match part {
            Some((Part::Bytes(part), size)) => {
                let length = part.end - part.start;
                let read = self.read(content, kind, Some(part.clone()), Some(length));
                Ok(read.await?.part(&part, size))
            }
            _ => self.read(content, kind, None, size).await,
        }
    }

    /// The bytes of a file, which is open until the client has them. What is small is read at once: a page of small
    /// pictures holds nothing open, however slow the client is.
    async fn read(
        &self,
        content: &Found,
        kind: HeaderValue,
        range: Option<Range<u64>>,
        length: Option<u64>,
    ) -> Result<Content, MatrixError> {
        if length.is_some_and(|length| length <= rhizome_media::SMALL) {
            let mut pieces = content.read(range).await?;
            let mut bytes = BytesMut::new();
            while let Some(piece) = pieces.try_next().await.map_err(of_other)? {
                bytes.extend_from_slice(&piece);
            }
            return Ok(Content::of_bytes(kind, bytes));
        }
        let place = self.app.limits.download(match self.asking.who {
            Asker::User(user) => Downloader::User(user.user),
            Asker::Anybody(peer) => Downloader::Block(peer),
        })?;
        let pieces = content.read(range).await?.inspect(move |_| {
            let _until_the_end = &place;
        });
        Ok(Content::streamed(kind, length, pieces))
    }
}

/// Whether a part helps the client: what it has is of the same file.
fn is_of_use(headers: &HeaderMap, tag: Option<&str>) -> bool {
    match (text(headers, header::IF_RANGE), tag) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(has), Some(tag)) => condition::is_same(&has, tag),
    }
}

/// 416: the part isn't there (<https://www.rfc-editor.org/rfc/rfc9110#name-416-range-not-satisfiable>).
fn not_there(size: u64) -> Content {
    let message = format!("The file has {size} bytes, and none in this range");
    let status = StatusCode::RANGE_NOT_SATISFIABLE;
    let error = MatrixError::new(status, "M_INVALID_PARAM", message);
    let unkept = HeaderValue::from_static("no-store");
    let told = Content::error(&error).with(header::CACHE_CONTROL, unkept);
    match HeaderValue::try_from(format!("bytes */{size}")) {
        Ok(range) => told.with(header::CONTENT_RANGE, range),
        Err(_) => told,
    }
}

/// A header's text; of one that comes several times, a list.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let values = headers.get_all(name).iter();
    let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}
