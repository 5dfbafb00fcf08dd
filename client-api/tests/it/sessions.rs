//! Logins, tokens and devices.

use std::time::Duration;

use axum::body::Body;
use http::Method;
use rhizome_storage::testing::eventually;
use serde_json::{Value, json};

use crate::{
    accounts::{LOGIN, password},
    asking::{HOSTILE, START_MS, each_server, encoded, text},
};

#[tokio::test]
async fn logins() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let flows = server.ask(Method::GET, LOGIN, Value::Null).await.ok();
        assert_eq!(flows["flows"][0], json!({ "type": "m.login.password" }));
        for name in ["ada", "ADA", "@ada:here.test", "@Ada:here.test"] {
            let session = server
                .ask(Method::POST, LOGIN, password(name, "secret"))
                .await
                .ok();
            assert_eq!(session["user_id"], ada.id.as_str());
        }
        let deprecated = json!({ "type": "m.login.password", "user": "ada", "password": "secret" });
        server.ask(Method::POST, LOGIN, deprecated).await.ok();
        for (name, guess) in [
            ("ada", "Secret"),
            ("nobody", "secret"),
            ("@ada:elsewhere.test", "secret"),
            ("", "secret"),
            ("a\u{0}da", "secret"),
        ] {
            server
                .ask(Method::POST, LOGIN, password(name, guess))
                .await
                .fails(403, "M_FORBIDDEN");
        }
        let other = json!({ "type": "m.login.cas", "token": "x" });
        server
            .ask(Method::POST, LOGIN, other)
            .await
            .fails(400, "M_UNKNOWN");
        let nobody = json!({ "type": "m.login.password", "password": "x" });
        server
            .ask(Method::POST, LOGIN, nobody)
            .await
            .fails(400, "M_MISSING_PARAM");

        // The same device again: its older token ends, its name stays.
        let mut login = password("ada", "secret");
        login["device_id"] = "D\u{fc}".into();
        login["initial_device_display_name"] = "first".into();
        let first = server.user_of(&server.ask(Method::POST, LOGIN, login.clone()).await.ok());
        first.get("/account/whoami").await.ok();
        login["initial_device_display_name"] = "second".into();
        let second = server.user_of(&server.ask(Method::POST, LOGIN, login.clone()).await.ok());
        first
            .get("/account/whoami")
            .await
            .fails(401, "M_UNKNOWN_TOKEN");
        let device = second
            .get(&format!("/devices/{}", encoded("D\u{fc}")))
            .await
            .ok();
        assert_eq!(device["display_name"], "first");
        ada.get("/account/whoami").await.ok();
        for device in ["", "a\u{0}b", "\n", &"x".repeat(256)] {
            login["device_id"] = device.into();
            server
                .ask(Method::POST, LOGIN, login.clone())
                .await
                .fails(400, "M_INVALID_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn tokens_expire_and_are_refreshed() {
    each_server(async |server| {
        server.register("ada").await;
        let mut login = password("ada", "secret");
        login["refresh_token"] = true.into();
        let session = server.ask(Method::POST, LOGIN, login).await.ok();
        assert_eq!(session["expires_in_ms"], 3_600_000);
        let mut ada = server.user_of(&session);
        ada.get("/account/whoami").await.ok();
        let room = ada.create_room(json!({})).await;
        let event = ada.say(&room, "hello").await;

        server.advance(Duration::from_secs(3601));
        let expired = ada
            .get("/account/whoami")
            .await
            .fails(401, "M_UNKNOWN_TOKEN");
        assert_eq!(expired["soft_logout"], true);

        let refresh = "/_matrix/client/v3/refresh";
        let old = json!({ "refresh_token": session["refresh_token"] });
        let lost = server.ask(Method::POST, refresh, old.clone()).await.ok();
        // The answer got lost; the old token is still good, and the lost ones are not.
        let renewed = server.ask(Method::POST, refresh, old.clone()).await.ok();
        let whoami = "/_matrix/client/v3/account/whoami";
        let lost_token = text(&lost["access_token"]);
        let answer = server
            .text(Method::GET, whoami, Some(&lost_token), Body::empty())
            .await;
        // Who has them goes on as the same device.
        let told = answer.fails(401, "M_UNKNOWN_TOKEN");
        assert_eq!(told["soft_logout"], true);
        let lost = json!({ "refresh_token": lost["refresh_token"] });
        let told = server.ask(Method::POST, refresh, lost).await;
        let told = told.fails(401, "M_UNKNOWN_TOKEN");
        assert_eq!(told["soft_logout"], true);
        ada.token = text(&renewed["access_token"]);
        assert_eq!(
            ada.get("/account/whoami").await.ok()["device_id"],
            session["device_id"]
        );

        // The transaction is the device's, not the token's.
        assert_eq!(ada.say(&room, "hello").await, event);

        let next = json!({ "refresh_token": renewed["refresh_token"] });
        let next = server.ask(Method::POST, refresh, next).await.ok();
        ada.get("/account/whoami").await.ok();
        ada.token = text(&next["access_token"]);
        ada.get("/account/whoami").await.ok();
        let nonsense = json!({ "refresh_token": "\u{0}" });
        server
            .ask(Method::POST, refresh, nonsense)
            .await
            .fails(401, "M_UNKNOWN_TOKEN");
        ada.post("/logout", json!({})).await.ok();
        let gone = json!({ "refresh_token": next["refresh_token"] });
        server
            .ask(Method::POST, refresh, gone)
            .await
            .fails(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_refresh_token_that_was_used_before_ends_the_session() {
    each_server(async |server| {
        server.register("ada").await;
        let mut login = password("ada", "secret");
        login["refresh_token"] = true.into();
        let session = server.ask(Method::POST, LOGIN, login.clone()).await.ok();
        let refresh = "/_matrix/client/v3/refresh";
        let old = json!({ "refresh_token": session["refresh_token"] });
        let renewed = server.ask(Method::POST, refresh, old.clone()).await.ok();
        let mut ada = server.user_of(&session);
        ada.token = text(&renewed["access_token"]);
        ada.get("/account/whoami").await.ok();
        // Somebody else has it, or had it first: nobody knows who is who.
        let thief = server.ask(Method::POST, refresh, old).await;
        assert_eq!(thief.fails(401, "M_UNKNOWN_TOKEN")["soft_logout"], true);
        let out = ada.get("/account/whoami").await;
        assert_eq!(out.fails(401, "M_UNKNOWN_TOKEN")["soft_logout"], true);
        let newest = json!({ "refresh_token": renewed["refresh_token"] });
        let newest = server.ask(Method::POST, refresh, newest).await;
        assert_eq!(newest.fails(401, "M_UNKNOWN_TOKEN")["soft_logout"], true);
        // Who knows the password goes on as the same device.
        login["device_id"] = session["device_id"].clone();
        let again = server.ask(Method::POST, LOGIN, login).await.ok();
        let again = server.user_of(&again);
        let devices = again.get("/devices").await.ok();
        assert_eq!(devices["devices"].as_array().unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn logging_out() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let [second, third] = [server.login("ada").await, server.login("ada").await];
        let bob = server.register("bob").await;
        second.post("/logout", Value::Null).await.ok();
        let out = second
            .get("/account/whoami")
            .await
            .fails(401, "M_UNKNOWN_TOKEN");
        assert_eq!(out["soft_logout"], false);
        let devices = ada.get("/devices").await.ok();
        assert_eq!(devices["devices"].as_array().unwrap().len(), 2);
        // Being seen is recorded, now and then; no request waits for it.
        server.advance(Duration::from_hours(2));
        let path = format!("/devices/{}", ada.device);
        eventually("that the device was seen is recorded", async || {
            let device = ada.get_from("2001:db8::7", &path).await.ok();
            device["last_seen_ts"] == START_MS + 2 * 3_600_000
                && device["last_seen_ip"] == "2001:db8::7"
        })
        .await;
        third.post("/logout/all", json!({})).await.ok();
        ada.get("/account/whoami")
            .await
            .fails(401, "M_UNKNOWN_TOKEN");
        third
            .get("/account/whoami")
            .await
            .fails(401, "M_UNKNOWN_TOKEN");
        bob.get("/account/whoami").await.ok();
    })
    .await;
}

#[tokio::test]
async fn devices_are_named_and_removed() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let phone = server.login("ada").await;
        for name in HOSTILE {
            let path = format!("/devices/{}", phone.device);
            ada.put(&path, json!({ "display_name": name })).await.ok();
            assert_eq!(ada.get(&path).await.ok()["display_name"], name);
        }
        let long = json!({ "display_name": "x".repeat(5000) });
        ada.put(&format!("/devices/{}", phone.device), long)
            .await
            .fails(400, "M_INVALID_PARAM");
        ada.get("/devices/NONE").await.fails(404, "M_NOT_FOUND");
        ada.put("/devices/NONE", json!({ "display_name": "x" }))
            .await
            .fails(404, "M_NOT_FOUND");
        let bob = server.register("bob").await;
        bob.get(&format!("/devices/{}", phone.device))
            .await
            .fails(404, "M_NOT_FOUND");

        let path = format!("/devices/{}", phone.device);
        let challenge = ada.delete(&path, json!({})).await;
        assert_eq!(challenge.status, 401);
        assert_eq!(
            challenge.body["flows"],
            json!([{ "stages": ["m.login.password"] }])
        );
        let auth = |user: &str, password: &str| {
            json!({ "auth": {
                "type": "m.login.password", "session": challenge.body["session"],
                "identifier": { "type": "m.id.user", "user": user }, "password": password,
            }})
        };
        let wrong = ada
            .delete(&path, auth("ada", "guess"))
            .await
            .fails(401, "M_FORBIDDEN");
        assert!(wrong["session"].is_string());
        ada.delete(&path, auth("bob", "secret"))
            .await
            .fails(403, "M_FORBIDDEN");
        // The session was begun for this device, by this user.
        let other = format!("/devices/{}", ada.device);
        ada.delete(&other, auth("ada", "secret"))
            .await
            .fails(401, "M_UNKNOWN");
        bob.delete(&path, auth("bob", "secret"))
            .await
            .fails(401, "M_UNKNOWN");
        ada.delete(&path, auth("ada", "secret")).await.ok();
        phone
            .get("/account/whoami")
            .await
            .fails(401, "M_UNKNOWN_TOKEN");

        let [a, b] = [server.login("ada").await, server.login("ada").await];
        let mut body = json!({ "auth": {
            "type": "m.login.password", "password": "secret",
            "identifier": { "type": "m.id.user", "user": ada.id },
        }});
        body["devices"] = json!([a.device, b.device, "NONE"]);
        ada.post("/delete_devices", body).await.ok();
        a.get("/account/whoami").await.fails(401, "M_UNKNOWN_TOKEN");
        b.get("/account/whoami").await.fails(401, "M_UNKNOWN_TOKEN");
        ada.get("/account/whoami").await.ok();
    })
    .await;
}
