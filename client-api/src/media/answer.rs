//! How a file is told: headers, and which of its bytes.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use rhizome_edge::{Content, MatrixError};
use rhizome_media::Content as Found;

use super::{
    condition,
    disposition::disposition,
    find::Asker,
    kind::{Kind, kind},
    range::{Part, part},
};

/// Where it is shown as a page of its own, a file does nothing
/// (<https://spec.matrix.org/v1.19/client-server-api/#content-repository>).
const POLICY: &str = "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; \
                      style-src 'unsafe-inline'; object-src 'self';";

/// Who may keep an answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cached {
    /// The user whose token it was asked with. A file never changes.
    ByUser,
    /// Anybody on the way as well, though not for longer than it may take until a file that was deleted is gone.
    ByAnybody,
}

impl Cached {
    pub(super) fn by(who: Asker<'_>) -> Self {
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
    asked: &Parts,
    content: Found,
    cached: Cached,
) -> Result<Content, MatrixError> {
    let kind = kind(content.info.content_type.as_deref());
    let disposition = disposition(kind.is_inline, content.info.name.as_deref());
    answer(asked, &content, kind, disposition, cached).await
}

/// A picture of one, which is always shown. Which it is depends on what the client can read.
pub(super) async fn picture(
    asked: &Parts,
    content: Found,
    cached: Cached,
) -> Result<Content, MatrixError> {
    let kind = kind(content.info.content_type.as_deref());
    let ending = match kind.header.as_bytes() {
        b"image/jpeg" => "jpg",
        b"image/gif" => "gif",
        b"image/webp" => "webp",
        _ => "png",
    };
    let disposition = disposition(kind.is_inline, Some(&format!("thumbnail.{ending}")));
    let answer = answer(asked, &content, kind, disposition, cached).await?;
    Ok(answer.with(header::VARY, HeaderValue::from_static("Accept")))
}

async fn answer(
    asked: &Parts,
    content: &Found,
    kind: Kind,
    disposition: HeaderValue,
    cached: Cached,
) -> Result<Content, MatrixError> {
    let tag = content.info.etag.as_ref().map(|etag| format!("\"{etag}\""));
    let answer = bytes(asked, content, kind.header, tag.as_deref()).await?;
    let mut answer = answer.with(header::CONTENT_DISPOSITION, disposition).with(
        header::CACHE_CONTROL,
        HeaderValue::from_static(cached.header()),
    );
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

/// The bytes that are asked for, or that there is no need of them.
async fn bytes(
    asked: &Parts,
    content: &Found,
    kind: HeaderValue,
    tag: Option<&str>,
) -> Result<Content, MatrixError> {
    if let (Some(known), Some(tag)) = (text(&asked.headers, header::IF_NONE_MATCH), tag)
        && condition::is_known(&known, tag)
    {
        return Ok(Content::empty(StatusCode::NOT_MODIFIED));
    }
    let size = content.info.size;
    if asked.method == Method::HEAD {
        return Ok(Content::without_body(kind, size));
    }
    let range = match (size, text(&asked.headers, header::RANGE)) {
        (Some(size), Some(range)) if is_of_use(&asked.headers, tag) => {
            Some((part(&range, size), size))
        }
        _ => None,
    };
    match range {
        Some((Part::None, size)) => Ok(not_there(size)),
        Some((Part::Bytes(part), size)) => {
            let pieces = content.read(Some(part.clone())).await?;
            let length = part.end - part.start;
            Ok(Content::streamed(kind, Some(length), pieces).part(&part, size))
        }
        _ => Ok(Content::streamed(kind, size, content.read(None).await?)),
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
    let told = Content::error(&error);
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
