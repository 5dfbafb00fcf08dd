//! Which operations a server has.

use axum::{Router, body::Body};
use http::{HeaderMap, Request, StatusCode};
use tower::ServiceExt as _;

use crate::{Exchange, answer, coverage, specification};

/// Asks a router, without its [`Watch`](crate::Watch), for every operation of both APIs: the method and path of those
/// that it has, which coverage hears of.
///
/// # Panics
/// When an answer says that the server made a mistake.
pub async fn probe(binary: &str, router: Router) -> Vec<&'static str> {
    let mut routed = Vec::new();
    for operation in specification::all() {
        let (method, path) = operation.split_once(' ').unwrap_or_default();
        let request = Request::builder().method(method).uri(filled(path));
        let request = request
            .body(Body::empty())
            .unwrap_or_else(|error| panic!("{operation}: {error}"));
        let Ok(answer) = router.clone().oneshot(request).await;
        let status = answer.status();
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{operation}");
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
        let exchange = Exchange {
            method: method.to_owned(),
            target: path.to_owned(),
            headers: HeaderMap::new(),
            sent: None,
            status: status.as_u16(),
            answer: body.ok(),
        };
        if !answer::is_unrecognized(&exchange) {
            coverage::routed(binary, operation);
            routed.push(operation);
        }
    }
    routed
}

/// A path with something in the place of its variables.
fn filled(path: &str) -> String {
    let segments = path.split('/');
    let filled = segments.map(|segment| {
        if segment.starts_with('{') {
            "x"
        } else {
            segment
        }
    });
    filled.collect::<Vec<_>>().join("/")
}
