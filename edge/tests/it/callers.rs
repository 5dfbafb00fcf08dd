//! Who makes a request, with and without a device.

use axum::{body::Body, extract::State};
use http::Request;
use rhizome_edge::{AdministratorToken, MatrixError, RawJson, Ruma, Table, Undecoded};
use ruma::{
    api::{
        auth_scheme::{AccessToken, AccessTokenOptional, AppserviceToken},
        federation::authentication::ServerSignatures,
    },
    metadata,
};
use serde_json::json;

use crate::support::{Open, ask, error_of, json_of, open};

macro_rules! endpoint {
    ($name:ident, $scheme:ident, $path:literal) => {
        struct $name;
        metadata! {
            @for $name,
            method: GET,
            rate_limited: false,
            authentication: $scheme,
            path: $path,
        }
    };
}

endpoint!(ForUsers, AccessToken, "/user");
endpoint!(ForAll, AccessTokenOptional, "/all");
endpoint!(ForAdministrators, AdministratorToken, "/administrator");
endpoint!(ForServices, AppserviceToken, "/service");
endpoint!(ForServers, ServerSignatures, "/server");

async fn user(
    _: State<Open>,
    Ruma { who, .. }: Ruma<Undecoded<ForUsers>>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&json!({ "user": who.user_id, "device": who.device()? }))
}

async fn all(
    _: State<Open>,
    Ruma { who, .. }: Ruma<Undecoded<ForAll>>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&json!({ "user": who.map(|user| user.user_id) }))
}

async fn administrator(
    _: State<Open>,
    Ruma { who, .. }: Ruma<Undecoded<ForAdministrators>>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&json!({ "user": who.user_id }))
}

async fn service(
    _: State<Open>,
    Ruma { who, .. }: Ruma<Undecoded<ForServices>>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&json!({ "service": who.id }))
}

async fn server(
    _: State<Open>,
    Ruma { who, .. }: Ruma<Undecoded<ForServers>>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&json!({ "server": who }))
}

#[tokio::test]
async fn each_endpoint_takes_whom_it_is_for() {
    let table = Table::default()
        .serve(user)
        .serve(all)
        .serve(administrator)
        .serve(service)
        .serve(server)
        .serve_public(public);
    let (_, router) = open(table);
    let get = async |path: &str, says: Option<&str>| {
        let mut request = Request::get(path);
        if let Some(says) = says {
            request = request.header("says", says);
        }
        ask(&router, request.body(Body::empty()).unwrap()).await
    };
    let user = json_of(get("/user", Some("user")).await).await;
    assert_eq!(user, json!({ "user": "@u:here", "device": "D" }));
    let deviceless = get("/user", Some("service")).await;
    assert_eq!(error_of(deviceless).await, (400, "M_MISSING_PARAM".into()));
    for (path, says, told) in [
        ("/all", None, json!({ "user": null })),
        ("/all", Some("service"), json!({ "user": "@u:here" })),
        (
            "/administrator",
            Some("administrator"),
            json!({ "user": "@u:here" }),
        ),
        ("/service", Some("service"), json!({ "service": "bridge" })),
        ("/server", Some("server"), json!({ "server": "a.example" })),
        // A stale token does no harm where nobody has a use for it.
        ("/public", Some("something else"), json!({ "user": null })),
    ] {
        assert_eq!(json_of(get(path, says).await).await, told, "{path}");
    }
    for (path, says, status) in [
        ("/user", None, 401),
        ("/user", Some("something else"), 401),
        ("/all", Some("something else"), 401),
        ("/administrator", Some("user"), 403),
        ("/service", Some("user"), 403),
        ("/server", Some("user"), 401),
    ] {
        assert_eq!(error_of(get(path, says).await).await.0, status, "{path}");
    }
}

endpoint!(ForAnybody, AccessTokenOptional, "/public");

async fn public(
    _: State<Open>,
    Ruma { who, .. }: Ruma<Undecoded<ForAnybody>>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&json!({ "user": who.map(|user| user.user_id) }))
}
