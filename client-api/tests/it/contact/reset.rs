//! A forgotten password, and logins by an address.

use std::net::SocketAddr;

use axum::{body::Body, extract::ConnectInfo};
use http::{Method, Request};
use rhizome_client_api::{ClientConfig, config::Rate};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{RESET, World, code, each, each_with, password, refused};

fn proof(sid: &str) -> Value {
    json!({
        "type": "m.login.email.identity",
        "threepid_creds": { "sid": sid, "client_secret": "secret" },
    })
}

async fn set(world: &World, auth: Value, more: Value) -> (u16, Value) {
    let mut body = json!({ "new_password": "another good password", "auth": auth });
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    world.post("/account/password", body).await
}

async fn login(world: &World, identifier: Value, password: &str) -> (u16, Value) {
    let body =
        json!({ "type": "m.login.password", "identifier": identifier, "password": password });
    world.post("/login", body).await
}

fn by_mail(address: &str) -> Value {
    json!({ "type": "m.id.thirdparty", "medium": "email", "address": address })
}

#[tokio::test]
async fn who_has_forgotten_a_password_sets_another_by_mail() {
    each(async |world| {
        let ada = world.user("ada", "ada@example.org", 0).await;
        let body = json!({ "new_password": "another good password" });
        let (status, asked) = world.post("/account/password", body).await;
        assert_eq!(status, 401);
        assert_eq!(
            asked["flows"],
            json!([{ "stages": ["m.login.email.identity"] }])
        );
        let sid = world.begin(RESET, "ADA@example.org").await;
        let mail = world.mails.last(2).await;
        assert!(mail.contains("new password for @ada:here"), "{mail}");
        let mut auth = proof(&sid);
        auth["session"] = asked["session"].clone();
        let early = set(world, auth.clone(), json!({})).await;
        assert!(early.1["flows"].is_array(), "{early:?}");
        refused(early, 401, "M_THREEPID_AUTH_FAILED");
        let done = world.submit(&sid, "secret", &code(&mail)).await;
        assert_eq!(done.0, 200, "{done:?}");
        // Nothing is used up by a password that won't do.
        let weak = set(world, auth.clone(), json!({ "new_password": "" })).await;
        refused(weak, 400, "M_WEAK_PASSWORD");
        assert_eq!(set(world, proof(&sid), json!({})).await, (200, json!({})));
        // Whoever was logged in isn't any more, and the proof is used up.
        let (status, _) = ada.get("/account/whoami").await;
        assert_eq!(status.as_u16(), 401);
        refused(
            set(world, proof(&sid), json!({})).await,
            401,
            "M_THREEPID_AUTH_FAILED",
        );
        let wrong = login(world, by_mail("ada@example.org"), "a good password").await;
        refused(wrong, 403, "M_FORBIDDEN");
        let (status, answer) =
            login(world, by_mail("Ada@example.org"), "another good password").await;
        assert_eq!((status, &answer["user_id"]), (200, &json!("@ada:here")));
    })
    .await;
}

#[tokio::test]
async fn sessions_stay_if_that_is_wanted() {
    each(async |world| {
        let ada = world.user("ada", "ada@example.org", 0).await;
        let sid = world.confirmed(RESET, "ada@example.org", 2).await;
        let (status, _) = set(world, proof(&sid), json!({ "logout_devices": false })).await;
        assert_eq!(status, 200);
        ada.read("/account/whoami").await;
    })
    .await;
}

#[tokio::test]
async fn an_address_that_was_let_go_sets_no_password() {
    each(async |world| {
        let ada = world.user("ada", "ada@example.org", 0).await;
        let sid = world.confirmed(RESET, "ada@example.org", 2).await;
        let gone = json!({ "medium": "email", "address": "ada@example.org" });
        ada.ok(Method::POST, "/account/3pid/delete", gone).await;
        refused(
            set(world, proof(&sid), json!({})).await,
            401,
            "M_THREEPID_AUTH_FAILED",
        );
    })
    .await;
}

/// What was shown before doesn't serve for what comes after.
#[tokio::test]
async fn an_address_that_comes_back_sets_no_password_by_what_was_shown_before() {
    each(async |world| {
        let ada = world.user("ada", "ada@example.org", 0).await;
        let sid = world.confirmed(RESET, "ada@example.org", 2).await;
        let gone = json!({ "medium": "email", "address": "ada@example.org" });
        ada.ok(Method::POST, "/account/3pid/delete", gone).await;
        let bob = world.user("bob", "ada@example.org", 2).await;
        let refusal = set(world, proof(&sid), json!({})).await;
        refused(refusal, 401, "M_THREEPID_AUTH_FAILED");
        bob.read("/account/whoami").await;
    })
    .await;
}

#[tokio::test]
async fn a_new_password_ends_other_ways_to_set_one() {
    each(async |world| {
        let ada = world.user("ada", "ada@example.org", 0).await;
        let sid = world.confirmed(RESET, "ada@example.org", 2).await;
        let body = json!({ "new_password": "another good password", "auth": password(&ada) });
        ada.ok(Method::POST, "/account/password", body).await;
        let refusal = set(world, proof(&sid), json!({})).await;
        refused(refusal, 401, "M_THREEPID_AUTH_FAILED");
    })
    .await;
}

/// A login from another subscriber each time.
async fn login_from(world: &World, n: usize, identifier: &Value, password: &str) -> (u16, Value) {
    let body =
        json!({ "type": "m.login.password", "identifier": identifier, "password": password });
    let from: SocketAddr = format!("[2001:db8:1:{n}::1]:1").parse().unwrap();
    let request = Request::post("/_matrix/client/v3/login")
        .extension(ConnectInfo(from))
        .body(Body::from(body.to_string()));
    let router = world.server.router.clone();
    let answer = router.oneshot(request.unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
    (status, serde_json::from_slice(&body.unwrap()).unwrap())
}

fn few_logins(config: &mut ClientConfig) {
    config.rate_limits.enabled = true;
    config.rate_limits.login = Rate {
        per_second: 0.0001,
        burst: 6,
    };
}

/// How often an address may be tried says nothing of whether an account has it.
#[tokio::test]
async fn an_address_is_counted_whoever_has_it() {
    each_with(few_logins, async |world| {
        world.user("ada", "ada@example.org", 0).await;
        for (at, address) in ["ada@example.org", "eve@example.org"].iter().enumerate() {
            for n in 0..7 {
                let tried = login_from(world, at * 7 + n, &by_mail(address), "guess").await;
                if n < 6 {
                    refused(tried, 403, "M_FORBIDDEN");
                } else {
                    refused(tried, 429, "M_LIMIT_EXCEEDED");
                }
            }
        }
    })
    .await;
}

/// An address doesn't tell whose account it is of, also where that is tried too often.
#[tokio::test]
async fn an_account_that_is_tried_too_often_is_not_told_by_its_address() {
    each_with(few_logins, async |world| {
        world.user("ada", "ada@example.org", 0).await;
        let by_name = json!({ "type": "m.id.user", "user": "ada" });
        for n in 0..6 {
            let tried = login_from(world, n, &by_name, "guess").await;
            refused(tried, 403, "M_FORBIDDEN");
        }
        let tried = login_from(world, 6, &by_mail("ada@example.org"), "a good password").await;
        refused(tried, 403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn people_log_in_by_their_address() {
    each(async |world| {
        world.user("ada", "ada@example.org", 0).await;
        let good = "a good password";
        let by_name = |name: &str| json!({ "type": "m.id.user", "user": name });
        for identifier in [by_mail("ada@example.org"), by_mail("ADA@EXAMPLE.ORG"), by_name("ada")] {
            assert_eq!(login(world, identifier, good).await.0, 200);
        }
        // As older clients do.
        let body = json!({ "type": "m.login.password", "medium": "email", "address": "ada@example.org", "password": good });
        assert_eq!(world.post("/login", body).await.0, 200);
        let known = login(world, by_mail("ada@example.org"), "guess").await;
        let unknown = login(world, by_mail("eve@example.org"), "guess").await;
        assert_eq!(known, unknown);
        refused(known, 403, "M_FORBIDDEN");
        refused(login(world, by_mail("ada"), good).await, 400, "M_INVALID_PARAM");
        let other = json!({ "type": "m.id.thirdparty", "medium": "pigeon", "address": "x" });
        refused(login(world, other, good).await, 400, "M_INVALID_PARAM");
        refused(login(world, json!({ "type": "m.id.thirdparty" }), good).await, 400, "M_MISSING_PARAM");
        refused(login(world, json!({ "type": "m.id.other" }), good).await, 400, "M_UNKNOWN");
    })
    .await;
}
