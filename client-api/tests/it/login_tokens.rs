//! Tokens with which somebody who is logged in logs another device in.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::{
    accounts::LOGIN,
    asking::{HttpAnswer, Server, User, config, each_server, each_server_with, text},
};

const GET_TOKEN: &str = "/_matrix/client/v1/login/get_token";

async fn ask(user: &User, body: Value) -> HttpAnswer {
    let server = &user.server;
    server
        .text(Method::POST, GET_TOKEN, Some(&user.token), body.to_string())
        .await
}

fn confirmed(user: &User) -> Value {
    json!({ "auth": {
        "type": "m.login.password", "password": "secret",
        "identifier": { "type": "m.id.user", "user": user.id },
    }})
}

async fn token(user: &User) -> String {
    let given = ask(user, confirmed(user)).await.ok();
    assert_eq!(given["expires_in_ms"], 120_000);
    text(&given["login_token"])
}

async fn log_in(server: &Server, token: &str) -> HttpAnswer {
    let body = json!({ "type": "m.login.token", "token": token });
    server.ask(Method::POST, LOGIN, body).await
}

#[tokio::test]
async fn a_login_token_lets_one_device_in_once_and_soon() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let flows = server.ask(Method::GET, LOGIN, Value::Null).await.ok();
        let offered = json!({ "type": "m.login.token", "get_login_token": true });
        assert!(flows["flows"].as_array().unwrap().contains(&offered));
        let can = ada.get("/capabilities").await.ok();
        let can = &can["capabilities"]["m.get_login_token"];
        assert_eq!(*can, json!({ "enabled": true }));

        let asked = ask(&ada, json!({})).await;
        assert_eq!(asked.status, 401);
        assert!(asked.body["session"].is_string());
        let first = token(&ada).await;
        let session = log_in(&server, &first).await.ok();
        let phone = server.user_of(&session);
        assert_eq!(phone.id, ada.id);
        assert_ne!(phone.device, ada.device);
        phone.get("/account/whoami").await.ok();
        log_in(&server, &first).await.fails(403, "M_FORBIDDEN");
        for nobodys in ["", "\u{0}", "x"] {
            log_in(&server, nobodys).await.fails(403, "M_FORBIDDEN");
        }
        let without = json!({ "type": "m.login.token" });
        let without = server.ask(Method::POST, LOGIN, without).await;
        without.fails(400, "M_MISSING_PARAM");

        let late = token(&ada).await;
        server.advance(Duration::from_mins(2));
        log_in(&server, &late).await.fails(403, "M_FORBIDDEN");

        // So many are good at a time.
        let mut last = String::new();
        for _ in 0..10 {
            last = token(&ada).await;
        }
        let more = ask(&ada, confirmed(&ada)).await;
        more.fails(429, "M_LIMIT_EXCEEDED");
        // With the other sessions they end.
        ada.post("/logout/all", json!({})).await.ok();
        log_in(&server, &last).await.fails(403, "M_FORBIDDEN");
    })
    .await;
}

/// Who had a device for a moment gets in no more once that is logged out.
#[tokio::test]
async fn a_login_token_goes_with_the_device_that_asked_for_it() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let own = token(&ada).await;
        let session = log_in(&server, &own).await.ok();
        let other = server.user_of(&session);
        let (kept, gone) = (token(&ada).await, token(&other).await);
        other.post("/logout", json!({})).await.ok();
        log_in(&server, &gone).await.fails(403, "M_FORBIDDEN");
        log_in(&server, &kept).await.ok();
    })
    .await;
}

#[tokio::test]
async fn without_the_setting_nobody_gets_one() {
    let off = || {
        let mut config = config();
        config.login_tokens = None;
        config
    };
    each_server_with(off, async |server| {
        let ada = server.register("ada").await;
        let flows = server.ask(Method::GET, LOGIN, Value::Null).await.ok();
        assert_eq!(flows["flows"], json!([{ "type": "m.login.password" }]));
        let can = ada.get("/capabilities").await.ok();
        let can = &can["capabilities"]["m.get_login_token"];
        assert_eq!(*can, json!({ "enabled": false }));
        let asked = ask(&ada, confirmed(&ada)).await;
        asked.fails(400, "M_UNRECOGNIZED");
    })
    .await;
}
