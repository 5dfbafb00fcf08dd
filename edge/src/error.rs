//! The one error of the edge: what a client or another server is told when its request fails.
//!
//! Lower layers have their own errors with reasons; as a [`Refusal`] each of them says its status, its `errcode`
//! and its sentence, which become one here
//! (<https://spec.matrix.org/v1.19/client-server-api/#standard-error-response>).

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use rhizome_protocol::Refusal;
use serde_json::{Map, Value};

/// A standard Matrix error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixError {
    /// The HTTP status of the answer.
    pub status: StatusCode,
    /// The machine-readable code, `M_…`.
    pub errcode: Cow<'static, str>,
    /// A sentence for people: what is wrong and, where there is one, the remedy.
    pub message: String,
    /// Further top-level keys of the body, such as `soft_logout` or `room_version`.
    pub extra: Map<String, Value>,
}

impl std::fmt::Display for MatrixError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {}: {}",
            self.status.as_u16(),
            self.errcode,
            self.message
        )
    }
}

impl std::error::Error for MatrixError {}

impl MatrixError {
    /// An error without further keys.
    pub fn new(
        status: StatusCode,
        errcode: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            errcode: errcode.into(),
            message: message.into(),
            extra: Map::new(),
        }
    }

    /// Adds a top-level key to the body.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(key.to_owned(), value.into());
        self
    }

    /// 403 `M_FORBIDDEN`: the caller may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", message)
    }

    /// 403 `M_GUEST_ACCESS_FORBIDDEN`: guests may not do this, or not there.
    pub fn not_for_guests(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN", message)
    }

    /// 404 `M_NOT_FOUND`: the thing asked for isn't there (or may not be seen).
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", message)
    }

    /// 400 `M_BAD_JSON`: JSON, but not of the expected shape.
    pub fn bad_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", message)
    }

    /// 400 `M_NOT_JSON`: not JSON at all.
    pub fn not_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", message)
    }

    /// Which of the two it is that a body can't be read.
    pub fn of_json(error: &serde_json::Error) -> Self {
        if error.is_data() {
            Self::bad_json(error.to_string())
        } else {
            Self::not_json(error.to_string())
        }
    }

    /// 400 `M_INVALID_PARAM`: a parameter has an unusable value.
    pub fn invalid_param(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", message)
    }

    /// 400 `M_MISSING_PARAM`: a required parameter is absent.
    pub fn missing_param(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_MISSING_PARAM", message)
    }

    /// 404 `M_UNRECOGNIZED`: no such endpoint.
    pub fn unrecognized() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "M_UNRECOGNIZED",
            "There is no such endpoint",
        )
    }

    /// 405 `M_UNRECOGNIZED`: the endpoint exists, but not with this method.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "M_UNRECOGNIZED",
            "This endpoint doesn't support the method of the request",
        )
    }

    /// 401 `M_UNKNOWN_TOKEN`: the access token isn't, or is no longer, valid.
    pub fn unknown_token(soft_logout: bool) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "M_UNKNOWN_TOKEN",
            "The access token isn't valid",
        )
        .with("soft_logout", soft_logout)
    }

    /// 401 `M_MISSING_TOKEN`: the endpoint needs an access token.
    pub fn missing_token() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "M_MISSING_TOKEN",
            "An access token is required",
        )
    }

    /// 401 `M_UNAUTHORIZED`: a server's request isn't properly signed.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", message)
    }

    /// 413 `M_TOO_LARGE`.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", message)
    }

    /// 429 `M_LIMIT_EXCEEDED`, also as a `Retry-After` header. `retry_after_ms` in milliseconds.
    pub fn limit_exceeded(retry_after_ms: u64) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "M_LIMIT_EXCEEDED",
            "Too many requests",
        )
        .with("retry_after_ms", retry_after_ms)
    }

    /// 502 `M_UNKNOWN`: another server, needed for this request, failed us.
    pub fn bad_gateway(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message)
    }

    /// 500 `M_UNKNOWN`. The cause belongs in the log, not in the answer.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "M_UNKNOWN",
            "Something went wrong on the server",
        )
    }

    /// 503 `M_UNKNOWN`: the database is too busy; the client may try again.
    pub fn busy() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "M_UNKNOWN",
            "The server is busy; please try again in a moment",
        )
        .with("retry_after_ms", 1000)
    }

    /// The body of the response.
    pub fn body(&self) -> Value {
        let mut body = self.extra.clone();
        // The first answer of user-interactive authentication is a 401 without a code.
        if !self.errcode.is_empty() {
            body.insert("errcode".to_owned(), Value::from(self.errcode.as_ref()));
            body.insert("error".to_owned(), Value::from(self.message.as_str()));
        }
        Value::Object(body)
    }

    /// Whole seconds for the `Retry-After` header, rounded up, if the body has `retry_after_ms`.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        Some(self.extra.get("retry_after_ms")?.as_u64()?.div_ceil(1000))
    }
}

impl IntoResponse for MatrixError {
    fn into_response(self) -> Response {
        let mut response = (
            self.status,
            [(header::CONTENT_TYPE, "application/json")],
            self.body().to_string(),
        )
            .into_response();
        if let Some(seconds) = self.retry_after_seconds() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl<E: Refusal> From<E> for MatrixError {
    fn from(refusal: E) -> Self {
        let status =
            StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if !refusal.is_for_the_log() {
            let mut error = Self::new(status, refusal.errcode(), refusal.to_string());
            if let Some((key, value)) = refusal.detail() {
                error = error.with(key, value);
            }
            return error;
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(%refusal, "busy");
            Self::busy()
        } else {
            tracing::error!(%refusal, "failed");
            Self::internal()
        }
    }
}

#[cfg(test)]
mod tests {
    use rhizome_storage::Error as Storage;

    use super::*;

    struct Odd;

    impl std::fmt::Display for Odd {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("It is odd")
        }
    }

    impl Refusal for Odd {
        fn status(&self) -> u16 {
            418
        }

        fn errcode(&self) -> &'static str {
            "M_ODD"
        }

        fn detail(&self) -> Option<(&'static str, Value)> {
            Some(("how", "very".into()))
        }
    }

    #[test]
    fn causes_stay_in_the_log_and_hints_reach_the_client() {
        let secret = MatrixError::from(Storage::Failed("password of postgres".to_owned()));
        assert_eq!(secret, MatrixError::internal());
        assert_eq!(
            MatrixError::from(Storage::Busy("so".into())),
            MatrixError::busy()
        );
        let odd = MatrixError::from(Odd);
        assert_eq!((odd.status.as_u16(), &*odd.errcode), (418, "M_ODD"));
        assert_eq!(odd.body()["error"], "It is odd");
        assert_eq!(odd.body()["how"], "very");
        let limited = MatrixError::limit_exceeded(1500).into_response();
        assert_eq!(limited.status().as_u16(), 429);
        assert_eq!(limited.headers()[header::RETRY_AFTER], "2");
        assert_eq!(limited.headers()[header::CONTENT_TYPE], "application/json");
    }
}
