//! Whether somebody was there at all.

use axum::body::Body;
use http::{Method, Response, StatusCode};
use serde::Deserialize;

use crate::outbound::answer;

/// What proxies answer for servers that they can't reach. Whether what was asked has arrived, these don't say.
const OF_PROXIES: [u16; 3] = [502, 503, 504];
/// What says that it hasn't: this isn't the server's place (421), and what a large proxy says of servers to which it can't
/// connect.
const NOT_PASSED_ON: [u16; 4] = [421, 521, 522, 523];

/// Whether a request that failed may be sent to another place: nobody has taken it, or taking it twice makes no difference.
pub(super) fn was_not_taken(method: &Method, error: &reqwest::Error) -> bool {
    error.is_connect() || (method.is_idempotent() && error.is_request() && !error.is_timeout())
}

/// Whether an answer may be that of a proxy with nobody behind it, to what may be asked again.
pub(super) fn may_be_absent(method: &Method, status: StatusCode) -> bool {
    let status = status.as_u16();
    NOT_PASSED_ON.contains(&status) || (method.is_idempotent() && OF_PROXIES.contains(&status))
}

/// Whether it is a homeserver that answers so, and its answer again. Only of errors, which are short.
pub(super) async fn look_at(response: Response<Body>) -> (Response<Body>, bool) {
    let (parts, body) = response.into_parts();
    // One that is too long, or breaks off, is no homeserver's.
    let body = axum::body::to_bytes(body, answer::REFUSAL).await;
    let body = body.unwrap_or_default();
    let speaks_matrix = is_matrix(&body);
    (Response::from_parts(parts, Body::from(body)), speaks_matrix)
}

fn is_matrix(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(rename = "errcode")]
        _code: String,
    }
    serde_json::from_slice::<Refusal>(body).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_matrix_is_there() {
        assert!(is_matrix(br#"{"errcode":"M_UNKNOWN","error":"busy"}"#));
        for other in ["", "<html>", "{}", "[]", r#"{"errcode":1}"#, "Bad gateway"] {
            assert!(!is_matrix(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn only_what_may_be_sent_twice_is_asked_elsewhere() {
        for (method, status, may) in [
            (Method::GET, 503, true),
            (Method::PUT, 502, true),
            (Method::POST, 502, false),
            (Method::POST, 521, true),
            (Method::GET, 500, false),
            (Method::GET, 404, false),
            (Method::GET, 429, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(may_be_absent(&method, status), may, "{method} {status}");
        }
    }
}
