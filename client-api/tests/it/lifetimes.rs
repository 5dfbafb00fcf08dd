//! How long tokens are good, as the operator wants it.

use std::time::Duration;

use http::Method;
use rhizome_client_api::ClientConfig;
use rhizome_storage::testing::eventually;
use serde_json::{Value, json};

use crate::{
    accounts::{LOGIN, password},
    asking::{HttpAnswer, Server, config, each_server_with, text},
};

const REFRESH: &str = "/_matrix/client/v3/refresh";
const REGISTER: &str = "/_matrix/client/v3/register";
const DAY: Duration = Duration::from_hours(24);

fn with_ends() -> ClientConfig {
    let mut config = config();
    config.refresh_token_lifetime = Some(10 * DAY);
    config.lasting_token_lifetime = Some(2 * DAY);
    config.guests = true;
    config
}

async fn refresh(server: &Server, token: &Value) -> HttpAnswer {
    let body = json!({ "refresh_token": token });
    server.ask(Method::POST, REFRESH, body).await
}

/// Out, but the device is still there.
#[track_caller]
fn out_for_now(answer: HttpAnswer) {
    let told = answer.fails(401, "M_UNKNOWN_TOKEN");
    assert_eq!(told["soft_logout"], true);
}

fn refreshable() -> Value {
    let mut login = password("ada", "secret");
    login["refresh_token"] = true.into();
    login
}

/// A millisecond less.
fn just_before(time: Duration) -> Duration {
    time.saturating_sub(Duration::from_millis(1))
}

#[tokio::test]
async fn a_refresh_token_ends_unless_it_is_used() {
    each_server_with(with_ends, async |server| {
        server.register("ada").await;
        let session = server.ask(Method::POST, LOGIN, refreshable()).await.ok();
        let mut ada = server.user_of(&session);
        // Each is good for as long again.
        let mut token = session["refresh_token"].clone();
        for _ in 0..3 {
            server.advance(just_before(10 * DAY));
            let renewed = refresh(&server, &token).await.ok();
            assert_eq!(renewed["expires_in_ms"], 3_600_000);
            ada.token = text(&renewed["access_token"]);
            ada.get("/account/whoami").await.ok();
            token = renewed["refresh_token"].clone();
        }
        server.advance(10 * DAY);
        out_for_now(ada.get("/account/whoami").await);
        for _ in 0..2 {
            out_for_now(refresh(&server, &token).await);
        }
        // Who logs in again goes on as the same device.
        let mut login = refreshable();
        login["device_id"] = session["device_id"].clone();
        let again = server.ask(Method::POST, LOGIN, login).await.ok();
        let again = server.user_of(&again);
        let devices = again.get("/devices").await.ok();
        assert_eq!(devices["devices"].as_array().unwrap().len(), 2);
        refresh(&server, &token).await.fails(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

/// One that was used before may be a thief's, however old it is.
#[tokio::test]
async fn an_old_refresh_token_that_is_used_again_still_ends_the_session() {
    each_server_with(with_ends, async |server| {
        server.register("ada").await;
        let session = server.ask(Method::POST, LOGIN, refreshable()).await.ok();
        let mut ada = server.user_of(&session);
        server.advance(9 * DAY);
        let first = refresh(&server, &session["refresh_token"]).await.ok();
        ada.token = text(&first["access_token"]);
        ada.get("/account/whoami").await.ok();
        server.advance(9 * DAY);
        let second = refresh(&server, &first["refresh_token"]).await.ok();
        ada.token = text(&second["access_token"]);
        ada.get("/account/whoami").await.ok();
        out_for_now(refresh(&server, &session["refresh_token"]).await);
        out_for_now(ada.get("/account/whoami").await);
        out_for_now(refresh(&server, &second["refresh_token"]).await);
    })
    .await;
}

#[tokio::test]
async fn tokens_of_clients_that_cannot_refresh_end() {
    each_server_with(with_ends, async |server| {
        let body = json!({ "username": "ada", "password": "secret",
            "auth": { "type": "m.login.dummy" } });
        let session = server.ask(Method::POST, REGISTER, body).await.ok();
        assert_eq!(session["expires_in_ms"], 2 * 24 * 3_600_000);
        assert_eq!(session.get("refresh_token"), None);
        let ada = server.user_of(&session);
        let guest = format!("{REGISTER}?kind=guest");
        let guest = server.ask(Method::POST, &guest, json!({})).await.ok();
        assert_eq!(guest.get("expires_in_ms"), None);
        let guest = server.user_of(&guest);
        server.advance(just_before(2 * DAY));
        ada.get("/account/whoami").await.ok();
        server.advance(Duration::from_millis(1));
        out_for_now(ada.get("/account/whoami").await);
        // A guest couldn't log in again.
        guest.get("/account/whoami").await.ok();
        let mut login = password("ada", "secret");
        login["device_id"] = ada.device.as_str().into();
        let again = server.ask(Method::POST, LOGIN, login).await.ok();
        assert_eq!(again["expires_in_ms"], 2 * 24 * 3_600_000);
        let again = server.user_of(&again);
        let devices = again.get("/devices").await.ok();
        assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
    })
    .await;
}

/// Neither where it is, nor that it has got what a refresh gave out.
#[tokio::test]
async fn a_token_that_has_ended_says_nothing_of_its_device() {
    each_server_with(with_ends, async |server| {
        server.register("ada").await;
        let session = server.ask(Method::POST, LOGIN, refreshable()).await.ok();
        let mut ada = server.user_of(&session);
        let other = server.login("ada").await;
        let device = format!("/devices/{}", ada.device);
        let before = other.get(&device).await.ok();
        let renewed = refresh(&server, &session["refresh_token"]).await.ok();
        server.advance(Duration::from_hours(2));
        for token in [&renewed["access_token"], &session["access_token"]] {
            ada.token = text(token);
            out_for_now(ada.get_from("2001:db8::7", "/account/whoami").await);
        }
        // What is seen later is recorded later.
        let own = format!("/devices/{}", other.device);
        eventually("that the other device was seen is recorded", async || {
            let seen = other.get_from("192.0.2.7", &own).await.ok();
            seen["last_seen_ip"] == "192.0.2.7"
        })
        .await;
        assert_eq!(other.get(&device).await.ok(), before);
        refresh(&server, &session["refresh_token"]).await.ok();
    })
    .await;
}

#[tokio::test]
async fn without_the_settings_they_do_not_end() {
    each_server_with(config, async |server| {
        let ada = server.register("ada").await;
        let session = server.ask(Method::POST, LOGIN, refreshable()).await.ok();
        server.advance(3_000 * DAY);
        ada.get("/account/whoami").await.ok();
        refresh(&server, &session["refresh_token"]).await.ok();
    })
    .await;
}
