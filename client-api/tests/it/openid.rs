//! Proving to other services who one is.

use std::net::SocketAddr;

use axum::{body::Body, extract::ConnectInfo};
use http::{Method, Request, StatusCode, header};
use rhizome_federation::testing::Network;
use ruma::server_name;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::harness::{Server, User, esc, story};

/// What another service is told of a token.
async fn userinfo(server: &Server, query: &str) -> (StatusCode, Value) {
    let federation = server.watched_federation();
    let path = format!("/_matrix/federation/v1/openid/userinfo{query}");
    let mut asked = server.clone();
    asked.router = federation;
    asked.request(Method::GET, &path, None, None).await
}

async fn token(user: &User) -> String {
    let path = format!("/user/{}/openid/request_token", esc(&user.id));
    let answer = user.ok(Method::POST, &path, json!({})).await;
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["matrix_server_name"], "here");
    assert_eq!(answer["expires_in"], 3_600);
    answer["access_token"].as_str().unwrap().to_owned()
}

fn is_unknown((status, answer): (StatusCode, Value)) {
    let found = (status, answer["errcode"].as_str().unwrap_or(""));
    assert_eq!(
        found,
        (StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_token_says_who_somebody_is_and_nothing_else() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let shown = token(&alice).await;
        let who = userinfo(&server, &format!("?access_token={}", esc(&shown))).await;
        assert_eq!(who, (StatusCode::OK, json!({ "sub": alice.id })));
        is_unknown(userinfo(&server, "?access_token=").await);
        is_unknown(userinfo(&server, &format!("?access_token={}", esc(&alice.token))).await);
        let (status, answer) = userinfo(&server, "?token=x").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer["errcode"], "M_MISSING_TOKEN");
        // It opens nothing.
        let thief = User {
            token: shown.clone(),
            ..alice.clone()
        };
        is_unknown(thief.get("/account/whoami").await);
        let path = format!("/user/{}/openid/request_token", esc(&alice.id));
        is_unknown(thief.call(Method::POST, &path, Some(json!({}))).await);
        let (status, _) = bob.call(Method::POST, &path, Some(json!({}))).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        // It ends with the session that asked for it.
        let phone = alice.another_device().await;
        let phones = token(&phone).await;
        phone.ok(Method::POST, "/logout", json!({})).await;
        is_unknown(userinfo(&server, &format!("?access_token={}", esc(&phones))).await);
        let who = userinfo(&server, &format!("?access_token={}", esc(&shown))).await;
        assert_eq!(who.0, StatusCode::OK);
        let auth = json!({ "type": "m.login.password", "password": "a good password",
            "identifier": { "type": "m.id.user", "user": alice.id } });
        let body = json!({ "auth": auth });
        alice.ok(Method::POST, "/account/deactivate", body).await;
        is_unknown(userinfo(&server, &format!("?access_token={}", esc(&shown))).await);
    })
    .await;
}

/// Who asks is counted by their address.
#[tokio::test]
async fn guessing_is_slow() {
    story(|server| async move {
        let network = Network::default();
        let mut settings = rhizome_federation::FederationConfig::default();
        settings.rate_limits.unsigned = rhizome_client_api::config::Rate {
            per_second: 0.001,
            burst: 3,
        };
        let store = server.store.clone();
        let name = server_name!("here");
        let server = Server::federating(name, 7, store, &network, settings, |_| {});
        let guess = async || {
            let from: SocketAddr = "192.0.2.1:1".parse().unwrap();
            let request = Request::get("/_matrix/federation/v1/openid/userinfo?access_token=a")
                .extension(ConnectInfo(from))
                .body(Body::empty());
            let router = server.watched_federation();
            let response = router.oneshot(request.unwrap()).await.unwrap();
            let waits = response.headers().contains_key(header::RETRY_AFTER);
            (response.status(), waits)
        };
        for _ in 0..3 {
            assert_eq!(guess().await, (StatusCode::UNAUTHORIZED, false));
        }
        assert_eq!(guess().await, (StatusCode::TOO_MANY_REQUESTS, true));
    })
    .await;
}
