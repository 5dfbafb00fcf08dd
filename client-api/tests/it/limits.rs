//! Rate limits that can't be walked around.

use std::{net::SocketAddr, time::Duration};

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

#[tokio::test]
async fn new_accounts_may_do_less_for_a_while() {
    let new = || {
        let one = Rate {
            per_second: 0.0001,
            burst: 1,
        };
        let mut config = config();
        config.rate_limits = RateLimits {
            enabled: true,
            new_account_age: Duration::from_hours(24),
            new_account_invite: one,
            new_account_room: one,
            ..RateLimits::default()
        };
        config
    };
    each_server_with(new, async |server| {
        let ada = server.register("ada").await;
        let room = ada.create_room(json!({})).await;
        let invite = format!("/rooms/{}/invite", esc(&room));
        let guest = |n: usize| format!("@guest{n}:here.test");
        let member = format!(
            "/rooms/{}/state/m.room.member/{}",
            esc(&room),
            esc(&guest(2))
        );
        let invited = json!({ "membership": "invite" });
        ada.post(&invite, json!({ "user_id": guest(1) })).await.ok();
        let limited = |answer: HttpAnswer| drop(answer.fails(429, "M_LIMIT_EXCEEDED"));
        limited(ada.post(&invite, json!({ "user_id": guest(2) })).await);
        limited(ada.put(&member, invited.clone()).await);
        limited(ada.post("/createRoom", json!({})).await);
        let two = json!({ "invite": [guest(3), guest(4)] });
        let two = ada.post("/createRoom", two).await;
        two.fails(400, "M_INVALID_PARAM");
        // Another's is as new, and has its own.
        let bob = server.register("bob").await;
        bob.create_room(json!({})).await;

        server.advance(Duration::from_hours(24));
        for n in 2..5 {
            ada.post(&invite, json!({ "user_id": guest(n) })).await.ok();
            ada.create_room(json!({})).await;
        }
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

/// Settings with ten messages to devices at once, and two servers that nobody has written to before.
fn few_messages() -> ClientConfig {
    let burst = |burst| Rate {
        per_second: 0.0001,
        burst,
    };
    let mut config = config();
    config.rate_limits = RateLimits {
        enabled: true,
        to_device: burst(10),
        new_server: burst(2),
        ..RateLimits::default()
    };
    config
}

#[tokio::test]
async fn messages_to_devices_count_each_and_by_size() {
    each_server_with(few_messages, async |server| {
        let ada = server.register("ada").await;
        let send = async |txn: usize, messages: Value| {
            let path = format!("/sendToDevice/m.test/{txn}");
            ada.put(&path, json!({ "messages": messages })).await
        };
        let some = |count: usize| -> Value {
            let devices = (0..count).map(|n| (format!("D{n}"), json!({})));
            json!({ "@ada:here.test": devices.collect::<serde_json::Map<_, _>>() })
        };
        let long = json!({ "@ada:here.test": { "*": { "text": "x".repeat(5_000) } } });
        send(1, some(11)).await.fails(400, "M_INVALID_PARAM");
        send(2, some(6)).await.ok();
        // Who hasn't heard the answer asks again, and pays once.
        for _ in 0..3 {
            send(2, some(6)).await.ok();
        }
        let limited = send(3, some(5)).await.fails(429, "M_LIMIT_EXCEEDED");
        assert!(limited["retry_after_ms"].as_u64().unwrap() > 0);
        send(4, long.clone()).await.ok();
        send(5, long).await.fails(429, "M_LIMIT_EXCEEDED");
        send(6, some(1)).await.ok();
        send(7, some(1)).await.fails(429, "M_LIMIT_EXCEEDED");
        // Only the message that was taken is there.
        let sync = ada.get("/sync").await.ok();
        let events = sync["to_device"]["events"].as_array().map(Vec::len);
        assert_eq!(events, Some(1));
    })
    .await;
}

#[tokio::test]
async fn servers_that_nobody_knows_are_written_to_by_few() {
    each_server_with(few_messages, async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let mut txn = 0;
        let mut to = |servers: std::ops::Range<usize>| {
            txn += 1;
            let users = servers.map(|n| (format!("@eve:made-up-{n}.test"), json!({ "D": {} })));
            let path = format!("/sendToDevice/m.test/{txn}");
            (
                path,
                json!({ "messages": users.collect::<serde_json::Map<_, _>>() }),
            )
        };
        let (path, body) = to(1..3);
        ada.put(&path, body).await.ok();
        // What isn't sent counts as no message either.
        for _ in 0..12 {
            let (path, body) = to(3..4);
            ada.put(&path, body).await.fails(429, "M_LIMIT_EXCEEDED");
        }
        // Where there is a queue already, another message is only that.
        let (path, body) = to(1..3);
        ada.put(&path, body).await.ok();
        let (path, body) = to(1..4);
        bob.put(&path, body).await.ok();
        let (path, body) = to(3..4);
        ada.put(&path, body).await.ok();
    })
    .await;
}

/// Strangers who guess a password don't keep its owner from confirming what they do.
#[tokio::test]
async fn who_is_logged_in_isnt_held_off_by_who_isnt() {
    each_server_with(three, async |server| {
        let ada = server.register("ada").await;
        let from = |n: usize| format!("[2001:db8:1:{n}::1]:1");
        for n in 0..3 {
            let guessed = guess(&server, "ada", &from(n)).await;
            guessed.fails(403, "M_FORBIDDEN");
        }
        let guessed = guess(&server, "ada", &from(3)).await;
        guessed.fails(429, "M_LIMIT_EXCEEDED");
        let confirmed = |password: &str| {
            json!({ "devices": [], "auth": { "type": "m.login.password", "password": password,
                "identifier": { "type": "m.id.user", "user": "ada" } } })
        };
        ada.post("/delete_devices", confirmed("secret")).await.ok();
        // Nor is that without end.
        for _ in 0..2 {
            let wrong = ada.post("/delete_devices", confirmed("guess")).await;
            assert_eq!(wrong.status, 401);
        }
        let more = ada.post("/delete_devices", confirmed("secret")).await;
        more.fails(429, "M_LIMIT_EXCEEDED");
    })
    .await;
}
