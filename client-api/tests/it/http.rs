//! What holds for every endpoint.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request};
use rhizome_client_api::config::{Rate, RateLimits};
use serde_json::{Value, json};

use crate::asking::{config, each_server, each_server_with};

#[tokio::test]
async fn unknown_paths_methods_and_preflights() {
    each_server(async |server| {
        let nothing = server
            .ask(Method::GET, "/_matrix/client/v3/nothing", Value::Null)
            .await;
        assert_eq!(nothing.headers["access-control-allow-origin"], "*");
        nothing.fails(404, "M_UNRECOGNIZED");
        let keys = server
            .ask(Method::POST, "/_matrix/client/v3/keys/nothing", json!({}))
            .await;
        keys.fails(404, "M_UNRECOGNIZED");
        let login = server
            .ask(Method::PUT, "/_matrix/client/v3/login", json!({}))
            .await;
        login.fails(405, "M_UNRECOGNIZED");
        for path in [
            "/_matrix/client/v3/login",
            "/_matrix/client/v3/sync",
            "/_matrix/client/v3/x",
        ] {
            let preflight = server.ask(Method::OPTIONS, path, Value::Null).await;
            assert!(preflight.status.is_success());
            assert_eq!(
                preflight.headers["access-control-allow-headers"],
                "X-Requested-With, Content-Type, Authorization"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn discovery_tells_what_is_there() {
    let settings = || {
        let mut config = config();
        config.well_known_client = Some("https://matrix.here.test".into());
        config
    };
    each_server_with(settings, async |server| {
        let versions = server
            .ask(Method::GET, "/_matrix/client/versions", Value::Null)
            .await
            .ok();
        assert_eq!(versions["versions"][0], "v1.1");
        let client = "/.well-known/matrix/client";
        let well_known = server.ask(Method::GET, client, Value::Null).await.ok();
        assert_eq!(
            well_known["m.homeserver"]["base_url"],
            "https://matrix.here.test"
        );
        let delegated = server
            .ask(Method::GET, "/.well-known/matrix/server", Value::Null)
            .await;
        delegated.fails(404, "M_NOT_FOUND");
        let ada = server.register("ada").await;
        let capabilities = ada.get("/capabilities").await.ok();
        let rooms = &capabilities["capabilities"]["m.room_versions"];
        assert_eq!(rooms["default"], "12");
        for version in 1..=12 {
            assert_eq!(rooms["available"][version.to_string()], "stable");
        }
    })
    .await;
}

#[tokio::test]
async fn other_servers_are_told_where_to_go() {
    let settings = || {
        let mut config = config();
        config.well_known_server = Some("matrix.here.test:443".into());
        config
    };
    each_server_with(settings, async |server| {
        let path = "/.well-known/matrix/server";
        let delegated = server.ask(Method::GET, path, Value::Null).await.ok();
        assert_eq!(delegated, json!({ "m.server": "matrix.here.test:443" }));
    })
    .await;
}

#[tokio::test]
async fn bodies_that_are_not_what_they_should_be() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let post = async |path: &str, body: &str| {
            let path = format!("/_matrix/client/v3{path}");
            server
                .text(Method::POST, &path, Some(&ada.token), body.to_owned())
                .await
        };
        // Also where the members that aren't UTF-8 mean nothing, and nobody has logged in.
        let request = Request::post("/_matrix/client/v3/register")
            .body(Body::from(&b"{\"test\": \"\x81\"}"[..]))
            .unwrap();
        server.raw(request).await.fails(400, "M_NOT_JSON");
        post("/createRoom", "{").await.fails(400, "M_NOT_JSON");
        post("/createRoom", "\"\\ud800\"")
            .await
            .fails(400, "M_NOT_JSON");
        post("/createRoom", "[]").await.fails(400, "M_BAD_JSON");
        post("/createRoom", "{\"name\": 1}")
            .await
            .fails(400, "M_BAD_JSON");
        post(
            "/createRoom",
            &format!(
                "{{\"creation_content\": {}1{}}}",
                "[".repeat(200),
                "]".repeat(200)
            ),
        )
        .await
        .fails(400, "M_BAD_JSON");
        post("/login", "{}").await.fails(400, "M_BAD_JSON");
        post("/login", "{\"type\": 7}")
            .await
            .fails(400, "M_BAD_JSON");
        post("/register", "{\"auth\": {\"session\": 5}}")
            .await
            .fails(400, "M_BAD_JSON");
        post("/rooms/nonsense/leave", "{}")
            .await
            .fails(400, "M_INVALID_PARAM");
        post("/rooms/%ff/leave", "{}")
            .await
            .fails(400, "M_INVALID_PARAM");
        let large = format!("{{\"name\": \"{}\"}}", "x".repeat(1024 * 1024));
        post("/createRoom", &large).await.fails(413, "M_TOO_LARGE");
    })
    .await;
}

#[tokio::test]
async fn tokens_in_headers_and_queries() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let whoami = "/_matrix/client/v3/account/whoami";
        let me = ada.get("/account/whoami").await.ok();
        assert_eq!(me["user_id"], "@ada:here.test");
        assert_eq!(me["device_id"], ada.device.as_str());
        server
            .ask(Method::GET, whoami, Value::Null)
            .await
            .fails(401, "M_MISSING_TOKEN");
        let query = format!("{whoami}?access_token={}", ada.token);
        server.ask(Method::GET, &query, Value::Null).await.ok();
        let r0 = format!(
            "/_matrix/client/r0/account/whoami?access_token={}",
            ada.token
        );
        server.ask(Method::GET, &r0, Value::Null).await.ok();
        let wrong = server
            .text(Method::GET, whoami, Some("nobody's"), Body::empty())
            .await;
        assert_eq!(wrong.fails(401, "M_UNKNOWN_TOKEN")["soft_logout"], false);
        let basic = Request::get(whoami).header("authorization", "Basic YTpi");
        server
            .raw(basic.body(Body::empty()).unwrap())
            .await
            .fails(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_warm_request_reads_no_database() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        ada.get("/account/whoami").await.ok();
        let before = server.app.store.counters().now();
        for _ in 0..10 {
            ada.get("/account/whoami").await.ok();
        }
        let after = server.app.store.counters().now();
        assert_eq!(after.queries, before.queries);
    })
    .await;
}

#[tokio::test]
async fn a_warm_send_costs_one_commit() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let room = ada.create_room(json!({})).await;
        for n in 0..3 {
            ada.say(&room, &format!("warm {n}")).await;
        }
        let before = server.app.store.counters().now();
        for n in 0..10 {
            ada.say(&room, &format!("hot {n}")).await;
        }
        let after = server.app.store.counters().now();
        assert_eq!(after.transactions - before.transactions, 10);
        // What one commit of one message needs, and nothing beside it.
        let statements = (after.queries - before.queries) / 10;
        assert!(statements <= 12, "{statements} statements for a message");
        // Told again, it is looked up, not written.
        let before = server.app.store.counters().now();
        ada.say(&room, "hot 9").await;
        let after = server.app.store.counters().now();
        assert!(after.transactions - before.transactions <= 1);
    })
    .await;
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_back() {
    let settings = || {
        let mut config = config();
        config.rate_limits = RateLimits {
            enabled: true,
            login: Rate {
                per_second: 0.1,
                burst: 3,
            },
            ..RateLimits::default()
        };
        config
    };
    each_server_with(settings, async |server| {
        server.register("ada").await;
        let guess = json!({ "type": "m.login.password", "user": "ada", "password": "guess" });
        // The registration was the first of three.
        for _ in 0..2 {
            let path = "/_matrix/client/v3/login";
            server
                .ask(Method::POST, path, guess.clone())
                .await
                .fails(403, "M_FORBIDDEN");
        }
        let limited = server
            .ask(Method::POST, "/_matrix/client/v3/login", guess.clone())
            .await;
        assert_eq!(limited.headers["retry-after"], "10");
        assert_eq!(
            limited.fails(429, "M_LIMIT_EXCEEDED")["retry_after_ms"],
            10_000
        );
        server.advance(Duration::from_secs(10));
        let again = server
            .ask(Method::POST, "/_matrix/client/v3/login", guess)
            .await;
        again.fails(403, "M_FORBIDDEN");
    })
    .await;
}
