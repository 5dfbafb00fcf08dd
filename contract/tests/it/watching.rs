//! A watched router.

use axum::{Router, body::Body, routing::any};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header::AUTHORIZATION};
use rhizome_contract::{Exchange, Watch};
use tower::ServiceExt as _;

/// A server that says the same to everything.
fn server(answer: &'static str, reads: bool) -> Router {
    let handler = async move |request: axum::extract::Request| {
        if reads {
            axum::body::to_bytes(request.into_body(), usize::MAX)
                .await
                .unwrap();
        }
        answer
    };
    Router::new().fallback(any(handler))
}

async fn ask(router: Router, body: Body) -> (StatusCode, String) {
    let request = Request::post("/_matrix/client/v3/login")
        .body(body)
        .unwrap();
    let answer = router.oneshot(request).await.unwrap();
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX)
        .await
        .unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

const SESSION: &str = r#"{"user_id":"@a:b","access_token":"t","device_id":"d"}"#;

#[tokio::test]
async fn it_passes_on_what_it_sees() {
    let watch = Watch::unrecorded();
    let router = watch.over(server(SESSION, true));
    let (status, body) = ask(router, Body::from(r#"{"type":"m.login.password"}"#)).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, SESSION));
    watch.assert_kept();
}

#[tokio::test]
#[should_panic(expected = "POST /_matrix/client/v3/login (200): Request /type is missing")]
async fn a_bad_request_that_was_answered_fails_the_test() {
    let watch = Watch::unrecorded();
    ask(watch.over(server(SESSION, true)), Body::from("{}")).await;
    watch.assert_kept();
}

#[tokio::test]
#[should_panic(expected = "POST /_matrix/app/v1/ping (0): Authorization  is no token")]
async fn what_is_asked_of_somebody_who_may_answer_anything_is_watched() {
    let watch = Watch::unrecorded();
    let router = watch.over_asked(server("anything", true));
    let request = |token: Option<&str>| {
        let mut request = Request::post("/_matrix/app/v1/ping");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        request.body(Body::from("{}")).unwrap()
    };
    let answer = router.clone().oneshot(request(Some("Bearer t")));
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    watch.assert_kept();
    router.oneshot(request(None)).await.unwrap();
    watch.assert_kept();
}

#[tokio::test]
#[should_panic(expected = "Answer /access_token is missing")]
async fn it_fails_the_test_when_nobody_asks() {
    let watch = Watch::unrecorded();
    let answer = r#"{"user_id":"@a:b","device_id":"d"}"#;
    let sent = Body::from(r#"{"type":"m.login.password"}"#);
    ask(watch.over(server(answer, true)), sent).await;
}

#[tokio::test]
async fn a_body_that_was_not_read_is_not_judged() {
    let watch = Watch::unrecorded();
    ask(watch.over(server(SESSION, false)), Body::from("{}")).await;
    watch.assert_kept();
}

const SIGNATURE: &str = r#"X-Matrix origin="a",destination="b",key="ed25519:1",sig="x""#;

/// A transaction that a server of ours sends to one that doesn't exist.
fn sent(authorization: &'static str, body: &'static str) -> Exchange {
    let authorization = HeaderValue::from_static(authorization);
    Exchange {
        method: "PUT".to_owned(),
        target: "/_matrix/federation/v1/send/1".to_owned(),
        headers: HeaderMap::from_iter([(AUTHORIZATION, authorization)]),
        sent: Some(Bytes::from_static(body.as_bytes())),
        status: 0,
        answer: None,
    }
}

#[test]
fn what_is_asked_of_others_is_judged_whatever_they_answer() {
    let watch = Watch::unrecorded();
    let good = r#"{"origin":"a","origin_server_ts":1,"pdus":[]}"#;
    watch.asked(&sent(SIGNATURE, good));
    watch.assert_kept();
}

#[test]
#[should_panic(expected = "Request /pdus is missing")]
fn a_bad_request_of_ours_fails_the_test() {
    let watch = Watch::unrecorded();
    watch.asked(&sent(SIGNATURE, r#"{"origin":"a","origin_server_ts":1}"#));
    watch.assert_kept();
}

#[test]
#[should_panic(expected = "Authorization /destination is missing")]
fn and_so_does_half_a_signature() {
    let watch = Watch::unrecorded();
    let half = r#"X-Matrix origin="a",key="ed25519:1",sig="x""#;
    watch.asked(&sent(
        half,
        r#"{"origin":"a","origin_server_ts":1,"pdus":[]}"#,
    ));
    watch.assert_kept();
}
