//! Refusals of other servers: what is taken of one, and what of that our clients are told.
//!
//! Clients take an error for ours, and act on it: `M_UNKNOWN_TOKEN` logs them out, `M_CONSENT_NOT_GIVEN` opens a
//! page, `M_RESOURCE_LIMIT_EXCEEDED` puts up a banner. So codes and keys pass by name or not at all.

use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use crate::MatrixError;

/// Codes that say something about what the client wants from the other server.
const CODES: [&str; 14] = [
    "M_BAD_ALIAS",
    "M_BAD_STATE",
    "M_FORBIDDEN",
    "M_INCOMPATIBLE_ROOM_VERSION",
    "M_INVALID_PARAM",
    "M_INVITE_BLOCKED",
    "M_LIMIT_EXCEEDED",
    "M_NOT_FOUND",
    "M_ROOM_IN_USE",
    "M_TOO_LARGE",
    "M_UNABLE_TO_AUTHORISE_JOIN",
    "M_UNABLE_TO_GRANT_JOIN",
    "M_UNSUPPORTED_ROOM_VERSION",
    "M_UNKNOWN",
];
/// What the proposals before it called `M_INVITE_BLOCKED`.
const BLOCKED: [&str; 2] = [
    "ORG.MATRIX.MSC4155.INVITE_BLOCKED",
    "ORG.MATRIX.MSC4155.M_INVITE_BLOCKED",
];
/// The longest that a client is told to wait, ms.
const LONGEST_WAIT: u64 = 60 * 60 * 1000;
/// The most characters of a code, of a message, and of a room version.
const MAX_CODE: usize = 64;
const MAX_MESSAGE: usize = 500;

/// The error in an answer, with bounded texts. Of further keys there are `room_version` and `retry_after_ms`.
pub(crate) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> MatrixError {
    let body: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str, limit: usize| {
        let text = body.get(key).and_then(Value::as_str)?;
        Some(text.chars().take(limit).collect::<String>())
    };
    let errcode = text("errcode", MAX_CODE).unwrap_or_else(|| "M_UNKNOWN".to_owned());
    let message = text("error", MAX_MESSAGE).unwrap_or_else(|| "no reason given".to_owned());
    let mut error = MatrixError::new(status, errcode, message);
    if let Some(version) = text("room_version", MAX_CODE) {
        error = error.with("room_version", version);
    }
    let seconds = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let wait = match seconds {
        Some(seconds) => Some(seconds.saturating_mul(1000)),
        None => body.get("retry_after_ms").and_then(Value::as_u64),
    };
    if let Some(wait) = wait {
        error = error.with("retry_after_ms", wait);
    }
    error
}

/// What a client is told of another server's refusal.
///
/// One that concerns the client's wish is passed on. Codes that clients act upon lose their meaning: what is left
/// is "no" or "not there". What concerns the servers' own relation (a bad signature, an endpoint that isn't there)
/// is a failure of ours.
pub(crate) fn for_client(error: MatrixError) -> MatrixError {
    let passes = CODES.contains(&&*error.errcode);
    let errcode = match (error.status.as_u16(), &*error.errcode) {
        (404, "M_UNRECOGNIZED") => None,
        // Nothing more is known than what the status says.
        (403, "M_UNKNOWN") => Some("M_FORBIDDEN".into()),
        (404, "M_UNKNOWN") => Some("M_NOT_FOUND".into()),
        (429, _) => Some("M_LIMIT_EXCEEDED".into()),
        (403, code) if BLOCKED.contains(&code) => Some("M_INVITE_BLOCKED".into()),
        (400 | 403 | 404 | 409 | 413, _) if passes => Some(error.errcode.clone()),
        (403, _) => Some("M_FORBIDDEN".into()),
        (404, _) => Some("M_NOT_FOUND".into()),
        _ => None,
    };
    let Some(errcode) = errcode else {
        return MatrixError::bad_gateway(format!("The other server answered {error}"));
    };
    let mut told = MatrixError::new(error.status, errcode, error.message);
    if let Some(version) = error.extra.get("room_version").filter(|it| it.is_string()) {
        told = told.with("room_version", version.clone());
    }
    if told.status == StatusCode::TOO_MANY_REQUESTS
        && let Some(wait) = error.extra.get("retry_after_ms").and_then(Value::as_u64)
    {
        told = told.with("retry_after_ms", wait.min(LONGEST_WAIT));
    }
    told
}

/// Whether a refusal says that the other server has no such endpoint: properly, or as older servers and proxies
/// do.
pub(crate) fn lacks_endpoint(error: &MatrixError) -> bool {
    match error.status.as_u16() {
        400 => error.errcode == "M_UNRECOGNIZED",
        404 | 405 => matches!(&*error.errcode, "M_UNRECOGNIZED" | "M_UNKNOWN"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> MatrixError {
        let status = StatusCode::from_u16(status).unwrap();
        read(status, &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn refusals_are_read_and_bounded() {
        let error = of(
            400,
            r#"{"errcode":"M_INCOMPATIBLE_ROOM_VERSION","error":"no","room_version":"99","flows":[]}"#,
        );
        assert_eq!(error.errcode, "M_INCOMPATIBLE_ROOM_VERSION");
        assert_eq!(error.extra["room_version"], "99");
        assert_eq!(error.extra.len(), 1);
        let long = format!(
            r#"{{"errcode":"{}","error":"{}","room_version":"{}"}}"#,
            "M".repeat(9999),
            "x".repeat(9999),
            "9".repeat(9999)
        );
        let error = of(500, &long);
        assert_eq!((error.errcode.len(), error.message.len()), (64, 500));
        assert_eq!(error.extra["room_version"].as_str().unwrap().len(), 64);
        for odd in ["", "<html>", "[]", r#"{"errcode":1,"room_version":[]}"#] {
            let error = of(502, odd);
            assert_eq!(
                (&*error.errcode, error.extra.len()),
                ("M_UNKNOWN", 0),
                "{odd}"
            );
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, u64::MAX.into());
        let error = read(StatusCode::TOO_MANY_REQUESTS, &headers, b"");
        assert_eq!(error.extra["retry_after_ms"], u64::MAX);
        assert_eq!(for_client(error).extra["retry_after_ms"], LONGEST_WAIT);
    }

    #[test]
    fn only_what_concerns_the_client_is_passed_on() {
        let told = |status: u16, errcode: &str| {
            let told = for_client(of(status, &format!(r#"{{"errcode":"{errcode}"}}"#)));
            (told.status.as_u16(), told.errcode.into_owned())
        };
        for (status, errcode, as_status, as_errcode) in [
            (403, "M_FORBIDDEN", 403, "M_FORBIDDEN"),
            (404, "M_NOT_FOUND", 404, "M_NOT_FOUND"),
            (
                400,
                "M_UNABLE_TO_AUTHORISE_JOIN",
                400,
                "M_UNABLE_TO_AUTHORISE_JOIN",
            ),
            (400, "M_UNABLE_TO_GRANT_JOIN", 400, "M_UNABLE_TO_GRANT_JOIN"),
            (429, "M_LIMIT_EXCEEDED", 429, "M_LIMIT_EXCEEDED"),
            (403, "M_UNKNOWN_TOKEN", 403, "M_FORBIDDEN"),
            (403, "M_UNKNOWN", 403, "M_FORBIDDEN"),
            (404, "", 404, "M_NOT_FOUND"),
            (404, "M_UNRECOGNIZED", 502, "M_UNKNOWN"),
            (400, "M_MISSING_TOKEN", 502, "M_UNKNOWN"),
            (400, "M_BAD_JSON", 502, "M_UNKNOWN"),
            (401, "M_UNKNOWN_TOKEN", 502, "M_UNKNOWN"),
            (401, "M_FORBIDDEN", 502, "M_UNKNOWN"),
            (500, "M_NOT_FOUND", 502, "M_UNKNOWN"),
        ] {
            assert_eq!(
                told(status, errcode),
                (as_status, as_errcode.to_owned()),
                "{status} {errcode}"
            );
        }
    }

    #[test]
    fn endpoints_that_are_not_there() {
        for (status, body, lacks) in [
            (404, "<html>", true),
            (404, r#"{"errcode":"M_UNRECOGNIZED"}"#, true),
            (405, r#"{"errcode":"M_UNRECOGNIZED"}"#, true),
            (400, r#"{"errcode":"M_UNRECOGNIZED"}"#, true),
            (404, r#"{"errcode":"M_NOT_FOUND"}"#, false),
            (400, "", false),
            (403, r#"{"errcode":"M_FORBIDDEN"}"#, false),
            (500, "", false),
        ] {
            assert_eq!(lacks_endpoint(&of(status, body)), lacks, "{status} {body}");
        }
    }
}
