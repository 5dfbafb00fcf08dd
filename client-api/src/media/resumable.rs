//! Uploads that go on where they broke off (docs/uploads.md), after
//! <https://datatracker.ietf.org/doc/draft-ietf-httpbis-resumable-upload/>.

use axum::extract::State;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use rhizome_edge::{Binary, Content, MatrixError, Ruma, Streamed, Undecoded, Upload};
use rhizome_media::{Append, Limits, MediaError, Progress, Resumable, ResumeError};
use rhizome_storage::UserNo;
use ruma::{api::auth_scheme::AccessToken, metadata};
use serde_json::json;

use super::{
    incoming::{pieces, told},
    names,
};
use crate::App;

/// Where uploads are.
const PLACE: &str = "/_matrix/client/unstable/org.rhizome.upload/";
/// Where they begin.
const BEGINNINGS: [&str; 2] = ["/_matrix/media/v3/upload", "/_matrix/media/r0/upload"];

const COMPLETE: HeaderName = HeaderName::from_static("upload-complete");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const LIMIT: HeaderName = HeaderName::from_static("upload-limit");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// What a PATCH brings.
const PARTIAL: &str = "application/partial-upload";
/// What pages of other origins may see of an answer.
const EXPOSED: &str =
    "Location, Content-Location, Upload-Complete, Upload-Offset, Upload-Length, Upload-Limit";

/// The form of the errors that the draft has names for (<https://www.rfc-editor.org/rfc/rfc9457>).
const PROBLEM: &str = "application/problem+json";
const PROBLEMS: &str = "https://iana.org/assignments/http-problem-types#";

/// `GET /_matrix/client/unstable/org.rhizome.upload/{id}`, and `HEAD`
pub struct GetUpload;
metadata! {
    @for GetUpload,
    method: GET,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.rhizome.upload/{id}",
}

/// `PATCH /_matrix/client/unstable/org.rhizome.upload/{id}`
pub struct PatchUpload;
metadata! {
    @for PatchUpload,
    method: PATCH,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.rhizome.upload/{id}",
}

/// `DELETE /_matrix/client/unstable/org.rhizome.upload/{id}`
pub struct DeleteUpload;
metadata! {
    @for DeleteUpload,
    method: DELETE,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.rhizome.upload/{id}",
}

/// What a request says that begins an upload and doesn't end it.
pub(super) struct Begins {
    /// How long the file is to be.
    pub(super) length: Option<u64>,
}

/// Whether a request only begins an upload.
///
/// # Errors
/// 400 if it says nothing that can be understood of that: taken for a whole upload, the beginning of a file would be one.
pub(super) fn begins(headers: &HeaderMap) -> Result<Option<Begins>, MatrixError> {
    let malformed = |name: &HeaderName| {
        MatrixError::invalid_param(format!("The header {name} has no value of its kind"))
    };
    let is_malformed = |name| headers.contains_key(name) && boolean(headers, name).is_none();
    if is_malformed(&COMPLETE) {
        return Err(malformed(&COMPLETE));
    }
    let length = integer(headers, &LENGTH);
    if headers.contains_key(&LENGTH) && length.is_none() {
        return Err(malformed(&LENGTH));
    }
    Ok((boolean(headers, &COMPLETE) == Some(false)).then_some(Begins { length }))
}

/// Begins an upload with its first bytes, which may be none.
pub(super) async fn begin(
    app: &App,
    user: UserNo,
    new: Resumable<'_>,
    body: Upload,
) -> Result<Content, MatrixError> {
    let media = &app.files.media;
    let announced = body.announced();
    let begun = media.begin(user, new, announced, pieces(body));
    let begun = match begun.await {
        Ok(begun) => begun,
        Err(error) => return Ok(refused(app, error, 0)),
    };
    let place = HeaderValue::try_from(format!("{PLACE}{}", begun.id));
    let place = place.map_err(|_| MatrixError::internal())?;
    let answer = Content::json(StatusCode::CREATED, &json!({}));
    Ok(state(app, answer, &begun).with(header::LOCATION, place))
}

/// `GET /_matrix/client/unstable/org.rhizome.upload/{id}`
pub async fn progress(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Binary<GetUpload>>,
) -> Result<Content, MatrixError> {
    let id = req.head.path.first().map_or("", String::as_str);
    let progress = app.files.media.progress(who.user, id).await?;
    let mut far = json!({ "offset": progress.offset, "complete": progress.complete });
    if let Some(length) = progress.length {
        far["length"] = length.into();
    }
    if progress.complete {
        let uri = names::uri(&app.config.server_name, &progress.media_id);
        far["content_uri"] = json!(uri);
    }
    let answer = if req.head.parts.method == Method::HEAD {
        Content::empty(StatusCode::NO_CONTENT)
    } else {
        Content::json(StatusCode::OK, &far)
    };
    Ok(state(&app, answer, &progress))
}

/// `PATCH /_matrix/client/unstable/org.rhizome.upload/{id}`
pub async fn append(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Streamed<PatchUpload>>,
) -> Result<Content, MatrixError> {
    let id = req.head.path.first().map_or("", String::as_str);
    let headers = &req.head.parts.headers;
    if !is_partial(headers) {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let message = format!("The body's type must be {PARTIAL}");
        let error = MatrixError::new(status, "M_UNKNOWN", message);
        let accept = HeaderValue::from_static(PARTIAL);
        return Ok(Content::error(&error).with(ACCEPT_PATCH, accept));
    }
    let missing = |name: &HeaderName| {
        let message = format!("The header {name} is missing, or no value of its kind");
        MatrixError::missing_param(message)
    };
    let what = Append {
        offset: integer(headers, &OFFSET).ok_or_else(|| missing(&OFFSET))?,
        completes: boolean(headers, &COMPLETE).ok_or_else(|| missing(&COMPLETE))?,
        length: integer(headers, &LENGTH),
        announced: req.upload.announced(),
    };
    let media = &app.files.media;
    let appended = media.append(who.user, id, what, pieces(req.upload));
    Ok(match appended.await {
        Ok(progress) if progress.complete => {
            let answer = if progress.fills {
                Content::json(StatusCode::OK, &json!({}))
            } else {
                told(&app, &progress.media_id, progress.blurhash).await
            };
            state(&app, answer, &progress)
        }
        Ok(progress) => state(&app, Content::empty(StatusCode::NO_CONTENT), &progress),
        Err(error) => refused(&app, error, what.offset),
    })
}

/// `DELETE /_matrix/client/unstable/org.rhizome.upload/{id}`
pub async fn cancel(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<DeleteUpload>>,
) -> Result<Content, MatrixError> {
    app.files.media.cancel(who.user, req.part(0)).await?;
    Ok(exposed(Content::empty(StatusCode::NO_CONTENT)))
}

/// What an OPTIONS is told where uploads begin and where they are.
pub(crate) fn options(app: &App, path: &str) -> HeaderMap {
    let begins = BEGINNINGS.iter().any(|begin| {
        let rest = path.strip_prefix(begin);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    let mut headers = HeaderMap::new();
    if !begins && !path.starts_with(PLACE) {
        return headers;
    }
    for (name, value) in [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        ),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "X-Requested-With, Content-Type, Authorization, Upload-Complete, Upload-Offset, Upload-Length",
        ),
        (ACCEPT_PATCH, PARTIAL),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.extend(limits(app, None).map(|limits| (LIMIT, limits)));
    headers
}

/// An answer that says how far an upload is.
fn state(app: &App, answer: Content, progress: &Progress) -> Content {
    let mut answer = exposed(answer)
        .with(COMPLETE, flag(progress.complete))
        .with(OFFSET, progress.offset.into())
        .with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(length) = progress.length {
        answer = answer.with(LENGTH, length.into());
    }
    if let Some(limits) = limits(app, Some(progress.expires_at)) {
        answer = answer.with(LIMIT, limits);
    }
    let uri = names::uri(&app.config.server_name, &progress.media_id);
    match HeaderValue::try_from(uri) {
        // Who has missed the last answer finds here what it was about.
        Ok(uri) if progress.complete => answer.with(header::CONTENT_LOCATION, uri),
        _ => answer,
    }
}

fn exposed(answer: Content) -> Content {
    let exposed = HeaderValue::from_static(EXPOSED);
    answer.with(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed)
}

/// What an upload may be, and how long it waits for more.
fn limits(app: &App, expires_at: Option<i64>) -> Option<HeaderValue> {
    let media = &app.files.media;
    let Limits {
        max_size,
        min_append,
    } = media.limits();
    let left = expires_at.map_or_else(
        || i64::try_from(media.config().pending_for.as_millis()).unwrap_or(i64::MAX),
        |until| until.saturating_sub(app.store.clock().now_ms()),
    );
    let age = left.max(0) / 1_000;
    let told = format!("max-size={max_size}, min-append-size={min_append}, max-age={age}");
    HeaderValue::try_from(told).ok()
}

/// Why an upload doesn't go on, for who began at `provided`.
fn refused(app: &App, error: ResumeError<MatrixError>, provided: u64) -> Content {
    let bad_request = |errcode: &'static str, error: &ResumeError<MatrixError>| {
        MatrixError::new(StatusCode::BAD_REQUEST, errcode, error.to_string())
    };
    match error {
        ResumeError::Body(error) => exposed(Content::error(&error)),
        ResumeError::Media(error) => {
            let is_large = matches!(error, MediaError::TooLarge { .. });
            let answer = exposed(Content::error(&error.into()));
            match limits(app, None).filter(|_| is_large) {
                Some(limits) => answer.with(LIMIT, limits),
                None => answer,
            }
        }
        // All has come: it is of no use to go on.
        ResumeError::Refused(error) => {
            exposed(Content::error(&error.into())).with(COMPLETE, flag(true))
        }
        ResumeError::WrongOffset { expected, complete } => {
            let told = MatrixError::new(StatusCode::CONFLICT, "M_UNKNOWN", error.to_string())
                .with("expected-offset", expected)
                .with("provided-offset", provided);
            let answer = problem(told, "mismatching-upload-offset");
            answer
                .with(OFFSET, expected.into())
                .with(COMPLETE, flag(complete))
        }
        ResumeError::WrongLength => {
            let told = bad_request("M_INVALID_PARAM", &error);
            problem(told, "inconsistent-upload-length")
        }
        ResumeError::TooSmall { .. } | ResumeError::TooManyParts => {
            let answer = Content::error(&bad_request("M_INVALID_PARAM", &error));
            match limits(app, None) {
                Some(limits) => exposed(answer).with(LIMIT, limits),
                None => exposed(answer),
            }
        }
    }
}

/// A Matrix error that is a problem of the draft as well.
fn problem(error: MatrixError, kind: &str) -> Content {
    let title = error.message.clone();
    let error = error
        .with("type", format!("{PROBLEMS}{kind}"))
        .with("title", title);
    exposed(Content::error(&error)).with(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM))
}

fn flag(value: bool) -> HeaderValue {
    HeaderValue::from_static(if value { "?1" } else { "?0" })
}

/// A field's only item without its parameters (<https://www.rfc-editor.org/rfc/rfc9651#name-items>).
fn item<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    value.split(';').next().map(|item| item.trim_matches(' '))
}

fn boolean(headers: &HeaderMap, name: &HeaderName) -> Option<bool> {
    match item(headers, name)? {
        "?0" => Some(false),
        "?1" => Some(true),
        _ => None,
    }
}

fn integer(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let digits = item(headers, name)?;
    let is_integer = digits.len() <= 15 && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| is_integer)
}

fn is_partial(headers: &HeaderMap) -> bool {
    item(headers, &header::CONTENT_TYPE).is_some_and(|kind| kind.eq_ignore_ascii_case(PARTIAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).unwrap();
        HeaderMap::from_iter([(COMPLETE, value)])
    }

    #[test]
    fn fields_are_read_as_items() {
        for (value, is) in [
            ("?0", Some(false)),
            ("?1", Some(true)),
            (" ?1 ; a=b", Some(true)),
            ("1", None),
            ("true", None),
            ("?0, ?1", None),
            ("", None),
        ] {
            assert_eq!(boolean(&headers(value), &COMPLETE), is, "{value:?}");
        }
        for (value, is) in [
            ("0", Some(0)),
            ("999999999999999", Some(999_999_999_999_999)),
            ("1000000000000000", None),
            ("+1", None),
            ("-1", None),
            ("1.0", None),
            ("", None),
            ("1;x", Some(1)),
        ] {
            assert_eq!(integer(&headers(value), &COMPLETE), is, "{value:?}");
        }
        let mut twice = headers("?0");
        twice.append(COMPLETE, flag(false));
        let begins = |headers: &HeaderMap| begins(headers).map(|begins| begins.is_some());
        assert_eq!(begins(&twice).unwrap_err().status, 400);
        assert_eq!(begins(&headers("1")).unwrap_err().status, 400);
        assert_eq!(begins(&headers("?0")), Ok(true));
        assert_eq!(begins(&headers("?1")), Ok(false));
        assert_eq!(begins(&HeaderMap::new()), Ok(false));
        let mut length = headers("?0");
        length.insert(LENGTH, HeaderValue::from_static("-1"));
        assert_eq!(begins(&length).unwrap_err().status, 400);
    }
}
