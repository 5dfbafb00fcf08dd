//! The table: paths, methods, what there isn't, and what goes wrong.

use axum::{body::Body, extract::State};
use http::{Method, Request, header};
use rhizome_edge::{MatrixError, RawJson, Ruma, Table, Undecoded};
use ruma::{
    api::{
        auth_scheme::NoAuthentication,
        client::{account::whoami::v3 as whoami, profile::get_profile::v3 as get_profile},
    },
    metadata,
};
use serde_json::json;

use crate::support::{Closed, Open, ask, error_of, json_of, open};

struct Panics;
metadata! {
    @for Panics,
    method: POST,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/panics",
}

async fn me(
    _: State<Open>,
    Ruma { who, .. }: Ruma<whoami::Request>,
) -> Result<whoami::Response, MatrixError> {
    Ok(whoami::Response::new(who.user_id, false))
}

async fn profile(
    _: State<Open>,
    Ruma { req, .. }: Ruma<get_profile::Request>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&json!({ "of": req.user_id }))
}

async fn panics(
    State(api): State<Open>,
    _: Ruma<Undecoded<Panics>>,
) -> Result<RawJson, MatrixError> {
    assert_eq!(api.done(), 1, "this is what is tested");
    Ok(RawJson::from_text("{}"))
}

async fn closed(_: State<Closed>, _: Ruma<Undecoded<Panics>>) -> Result<RawJson, MatrixError> {
    Ok(RawJson::from_text("{}"))
}

fn table() -> Table<Open> {
    Table::default().serve(me).serve(profile).serve(panics)
}

fn request(method: Method, path: &str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn an_endpoint_is_at_all_paths_of_its_type() {
    let (_, router) = open(table());
    for version in ["r0", "v3"] {
        let path = format!("/_matrix/client/{version}/profile/@u:here");
        let told = json_of(ask(&router, request(Method::GET, &path)).await).await;
        assert_eq!(told["of"], "@u:here");
        let nobody = format!("/_matrix/client/{version}/profile/nobody");
        let answer = ask(&router, request(Method::GET, &nobody)).await;
        assert_eq!(error_of(answer).await, (400, "M_INVALID_PARAM".into()));
    }
    let table = table();
    let paths: Vec<_> = table.endpoints().map(|(path, ..)| path).collect();
    assert!(paths.contains(&"/_matrix/client/v3/profile/{p1}"));
}

#[tokio::test]
async fn what_there_is_not_is_unrecognized() {
    let (_, router) = open(table());
    let none = ask(&router, request(Method::GET, "/_matrix/client/v3/none")).await;
    assert_eq!(none.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert_eq!(error_of(none).await, (404, "M_UNRECOGNIZED".into()));
    let wrong = ask(&router, request(Method::PUT, "/panics")).await;
    assert_eq!(wrong.headers()[header::ALLOW], "POST");
    assert_eq!(error_of(wrong).await, (405, "M_UNRECOGNIZED".into()));
}

#[tokio::test]
async fn pages_of_other_origins_may_call_where_the_api_says_so() {
    let (api, router) = open(table());
    for path in ["/panics", "/none"] {
        let preflight = ask(&router, request(Method::OPTIONS, path)).await;
        assert_eq!(preflight.status(), 204);
        let origin = &preflight.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN];
        assert_eq!(origin, "*");
    }
    let closed = Table::default().serve(closed).into_router(Closed(api));
    for (path, status) in [("/panics", 405), ("/none", 404)] {
        let preflight = ask(&closed, request(Method::OPTIONS, path)).await;
        let headers = preflight.headers();
        assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
        assert_eq!(error_of(preflight).await, (status, "M_UNRECOGNIZED".into()));
    }
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let (api, router) = open(table());
    let answer = ask(&router, request(Method::POST, "/panics")).await;
    assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert_eq!(error_of(answer).await, (500, "M_UNKNOWN".into()));
    assert!(api.unfinished.is_empty());
}
