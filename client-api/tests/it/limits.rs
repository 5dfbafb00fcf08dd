//! Rate limits that can't be walked around.

use std::net::SocketAddr;

use axum::{body::Body, extract::ConnectInfo};
use http::{Method, Request};
use rhizome_client_api::{
    ClientConfig,
    config::{Rate, RateLimits},
};
use serde_json::{Value, json};

use crate::asking::{HttpAnswer, Server, config, each_server_with};
use crate::harness::esc;

/// Settings with three invites and three logins at once, and none after that.
fn three() -> ClientConfig {
    let three = Rate {
        per_second: 0.0001,
        burst: 3,
    };
    let mut config = config();
    config.rate_limits = RateLimits {
        enabled: true,
        invite: three,
        login: three,
        ..RateLimits::default()
    };
    config
}

#[tokio::test]
async fn an_invite_counts_however_it_is_asked_for() {
    each_server_with(three, async |server| {
        let ada = server.register("ada").await;
        let room = ada.create_room(json!({})).await;
        let guest = |n: usize| format!("@guest{n}:here.test");
        let invite = format!("/rooms/{}/invite", esc(&room));
        let member = |n| {
            format!(
                "/rooms/{}/state/m.room.member/{}",
                esc(&room),
                esc(&guest(n))
            )
        };
        let invited = json!({ "membership": "invite" });

        let four = json!({ "invite": [guest(1), guest(2), guest(3), guest(4)] });
        ada.post("/createRoom", four)
            .await
            .fails(400, "M_INVALID_PARAM");
        ada.post(&invite, json!({ "user_id": guest(1) })).await.ok();
        ada.put(&member(2), invited.clone()).await.ok();
        ada.create_room(json!({ "invite": [guest(3)] })).await;

        let limited = |answer: HttpAnswer| drop(answer.fails(429, "M_LIMIT_EXCEEDED"));
        let body = json!({ "user_id": guest(4) });
        limited(ada.post(&invite, body).await);
        limited(ada.put(&member(5), invited).await);
        let with = json!({ "invite": [guest(6)] });
        limited(ada.post("/createRoom", with).await);
        // Nothing was made on the way, and what is no invite goes on.
        let rooms = ada.get("/joined_rooms").await.ok();
        assert_eq!(rooms["joined_rooms"].as_array().map(Vec::len), Some(2));
        ada.create_room(json!({})).await;
        ada.put(&member(1), json!({ "membership": "leave" }))
            .await
            .ok();
    })
    .await;
}

async fn guess(server: &Server, name: &str, from: &str) -> HttpAnswer {
    let login = json!({ "type": "m.login.password", "user": name, "password": "guess" });
    let from: SocketAddr = from.parse().unwrap();
    let request = Request::builder()
        .method(Method::POST)
        .uri("/_matrix/client/v3/login")
        .extension(ConnectInfo(from))
        .body(Body::from(Value::to_string(&login)));
    server.raw(request.unwrap()).await
}

#[tokio::test]
async fn a_subscriber_is_one_however_many_addresses_they_have() {
    each_server_with(three, async |server| {
        for n in 0..3 {
            let from = format!("[2001:db8:1:2::{n}]:1");
            guess(&server, &format!("user{n}"), &from)
                .await
                .fails(403, "M_FORBIDDEN");
        }
        guess(&server, "user4", "[2001:db8:1:2:ffff::1]:1")
            .await
            .fails(429, "M_LIMIT_EXCEEDED");
        guess(&server, "user5", "[2001:db8:1:3::1]:1")
            .await
            .fails(403, "M_FORBIDDEN");
    })
    .await;
}
