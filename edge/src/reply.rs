//! What handlers answer with.

use std::ops::Range;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use ruma::api::{OutgoingResponse, OutgoingResponseExt as _};

use crate::{
    MatrixError,
    patient::{PATIENCE, Patient},
};

/// What a handler may answer with: a response type of ruma, [`RawJson`] or [`Content`].
pub trait Reply {
    /// The HTTP response.
    fn reply(self) -> Response;
}

impl<R: OutgoingResponse> Reply for R {
    fn reply(self) -> Response {
        match self.try_into_http_response::<Vec<u8>>() {
            Ok(response) => response.map(Body::from),
            Err(error) => {
                tracing::error!(%error, "a response can't be encoded");
                MatrixError::internal().into_response()
            }
        }
    }
}

/// A body of ours: JSON text, sent as it is with status 200.
pub struct RawJson(pub Bytes);

impl RawJson {
    /// JSON text that is there already.
    pub fn from_text(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }

    /// The JSON of a value.
    pub fn of(value: &impl serde::Serialize) -> Result<Self, MatrixError> {
        let bytes = serde_json::to_vec(value).map_err(|error| {
            tracing::error!(%error, "a response can't be encoded");
            MatrixError::internal()
        })?;
        Ok(Self(bytes.into()))
    }
}

impl Reply for RawJson {
    fn reply(self) -> Response {
        let content_type = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, content_type)], self.0).into_response()
    }
}

/// Content of any type: there already, or on its way, of which the door holds no more than a piece.
///
/// A HEAD gets its headers; who asked for a part of it (`Range`) is given that by [`Content::part`].
pub struct Content {
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
}

impl Content {
    /// Bytes that are there.
    pub fn of_bytes(kind: HeaderValue, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::new(kind, Some(bytes.len() as u64), Body::from(bytes))
    }

    /// Bytes that come, of this length if it is known. An error in their middle cuts the connection: the client
    /// sees that it hasn't got all of them. A client that takes nothing for a minute gets no more, and the pieces are
    /// dropped with all that they hold.
    pub fn streamed<E: Into<axum::BoxError>>(
        kind: HeaderValue,
        length: Option<u64>,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Self {
        let pieces = pieces.map(|piece| piece.map_err(Into::into));
        Self::new(
            kind,
            length,
            Body::from_stream(Patient::new(pieces.boxed(), PATIENCE)),
        )
    }

    fn new(kind: HeaderValue, length: Option<u64>, body: Body) -> Self {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::CONTENT_TYPE, kind);
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        Self {
            status: StatusCode::OK,
            headers,
            body,
        }
    }

    /// No bytes at all: of a 304, a 204.
    pub fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::with_capacity(8),
            body: Body::empty(),
        }
    }

    /// What a GET would answer with a body of this length, for a HEAD.
    pub fn without_body(kind: HeaderValue, length: Option<u64>) -> Self {
        Self::new(kind, length, Body::empty())
    }

    /// A JSON text, with this status.
    pub fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        let kind = HeaderValue::from_static("application/json");
        Self::of_bytes(kind, value.to_string()).with_status(status)
    }

    /// An error that needs headers.
    pub fn error(error: &MatrixError) -> Self {
        let answer = Self::json(error.status, &error.body());
        match error.retry_after_seconds() {
            Some(seconds) => answer.with(header::RETRY_AFTER, seconds.into()),
            None => answer,
        }
    }

    /// With another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// A further header, or another value of one.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// That these bytes are a part of something larger: 206, with `Content-Range` and the part's length
    /// (<https://www.rfc-editor.org/rfc/rfc9110#name-206-partial-content>).
    #[must_use]
    pub fn part(mut self, bytes: &Range<u64>, of: u64) -> Self {
        let last = bytes.end.saturating_sub(1);
        let told = format!("bytes {}-{last}/{of}", bytes.start);
        if let Ok(told) = HeaderValue::try_from(told) {
            self.headers.insert(header::CONTENT_RANGE, told);
        }
        let length = bytes.end.saturating_sub(bytes.start);
        self.headers.insert(header::CONTENT_LENGTH, length.into());
        self.status = StatusCode::PARTIAL_CONTENT;
        self
    }
}

impl Reply for Content {
    fn reply(self) -> Response {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}
