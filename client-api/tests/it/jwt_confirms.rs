//! Who has no password confirms what they do by a fresh token of the operator's own system.

use std::time::Duration;

use http::Method;
use rhizome_client_api::ClientConfig;
use serde_json::{Value, json};

use crate::{
    accounts::password,
    asking::{HttpAnswer, START_MS, Server, User, each_server_with, text},
    jwt::{log_in, token, with_jwt},
};

const JWT: &str = "org.matrix.login.jwt";
const NOW: i64 = START_MS / 1000;

fn settings() -> ClientConfig {
    with_jwt(true)
}

fn issued(name: &str, at: i64) -> Value {
    json!({ "sub": name, "iat": at, "exp": at + 3600 })
}

/// A user without a password.
async fn bob(server: &Server) -> User {
    let session = log_in(server, &issued("bob", NOW)).await.ok();
    server.user_of(&session)
}

async fn delete(user: &User, auth: Value) -> HttpAnswer {
    let body = json!({ "devices": ["NONE"], "auth": auth });
    user.post("/delete_devices", body).await
}

async fn challenge(user: &User) -> Value {
    let asked = user
        .post("/delete_devices", json!({ "devices": ["NONE"] }))
        .await;
    assert_eq!(asked.status, 401, "{:?}", asked.body);
    asked.body
}

fn auth(payload: &Value, session: &Value) -> Value {
    json!({ "type": JWT, "token": token(payload), "session": session })
}

#[tokio::test]
async fn a_fresh_token_of_the_same_user_confirms() {
    each_server_with(settings, async |server| {
        let bob = bob(&server).await;
        let ada = server.register("ada").await;
        let can = bob.get("/capabilities").await.ok();
        assert_eq!(can["capabilities"]["m.get_login_token"]["enabled"], true);
        let asked = challenge(&bob).await;
        assert_eq!(asked["flows"], json!([{ "stages": [JWT] }]));
        let session = &asked["session"];
        for bad in [
            json!({ "sub": "bob", "exp": NOW + 3600 }),
            issued("bob", NOW - 3600),
            issued("bob", NOW + 3600),
            json!({ "sub": "bob", "iat": NOW, "exp": NOW - 61 }),
            json!({ "sub": "bob", "iat": NOW, "exp": NOW + 48 * 3600 }),
        ] {
            let answer = delete(&bob, auth(&bad, session)).await;
            answer.fails(401, "M_FORBIDDEN");
        }
        for bad in [json!("x.y.z"), json!(""), json!(7), Value::Null] {
            let auth = json!({ "type": JWT, "token": bad, "session": session });
            delete(&bob, auth).await.fails(401, "M_FORBIDDEN");
        }
        // Somebody else confirms nothing.
        for other in ["ada", "Bob", "nobody"] {
            let answer = delete(&bob, auth(&issued(other, NOW), session)).await;
            answer.fails(403, "M_FORBIDDEN");
        }
        // Nor does a password that there isn't.
        let mut guess = password("bob", "");
        guess["session"] = session.clone();
        delete(&bob, guess).await.fails(401, "M_FORBIDDEN");
        let good = auth(&issued("bob", NOW), session);
        delete(&bob, good.clone()).await.ok();
        // It serves once.
        delete(&bob, good).await.fails(401, "M_UNKNOWN");

        // Who has a password confirms with that alone.
        let asked = challenge(&ada).await;
        let flows = json!([{ "stages": ["m.login.password"] }]);
        assert_eq!(asked["flows"], flows);
        let answer = delete(&ada, auth(&issued("ada", NOW), &asked["session"])).await;
        answer.fails(401, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn a_password_can_be_set_and_takes_its_place() {
    each_server_with(settings, async |server| {
        let bob = bob(&server).await;
        let begun = challenge(&bob).await;
        let wish = |auth: Value| json!({ "new_password": "secret", "auth": auth });
        let asked = bob
            .post("/account/password", json!({ "new_password": "secret" }))
            .await;
        assert_eq!(asked.status, 401);
        let good = auth(&issued("bob", NOW), &asked.body["session"]);
        bob.post("/account/password", wish(good)).await.ok();
        let asked = challenge(&bob).await;
        let flows = json!([{ "stages": ["m.login.password"] }]);
        assert_eq!(asked["flows"], flows);
        // Also of what was begun before.
        let old = delete(&bob, auth(&issued("bob", NOW), &begun["session"])).await;
        assert_eq!(old.fails(401, "M_FORBIDDEN")["flows"], flows);
        let mut right = password("bob", "secret");
        right["session"] = begun["session"].clone();
        delete(&bob, right).await.ok();
    })
    .await;
}

#[tokio::test]
async fn what_a_token_confirmed_counts_for_a_while() {
    let settings = || {
        let mut config = settings();
        config.reauthentication_window = Duration::from_mins(10);
        config
    };
    each_server_with(settings, async |server| {
        let bob = bob(&server).await;
        // That they logged in by one doesn't.
        let asked = challenge(&bob).await;
        let good = auth(&issued("bob", NOW), &asked["session"]);
        delete(&bob, good).await.ok();
        let again = json!({ "devices": ["GONE"] });
        bob.post("/delete_devices", again).await.ok();
        server.advance(Duration::from_mins(10));
        challenge(&bob).await;
        // The end of the account takes it anyhow.
        let later = NOW + 600;
        let asked = challenge(&bob).await;
        delete(&bob, auth(&issued("bob", later), &asked["session"]))
            .await
            .ok();
        let asked = bob.post("/account/deactivate", json!({})).await;
        assert_eq!(asked.status, 401);
        let good = auth(&issued("bob", later), &asked.body["session"]);
        let end = bob
            .post("/account/deactivate", json!({ "auth": good }))
            .await;
        end.ok();
    })
    .await;
}

/// There is no such thing in a browser.
#[tokio::test]
async fn a_browser_has_no_page_for_it() {
    each_server_with(settings, async |server| {
        let bob = bob(&server).await;
        let asked = challenge(&bob).await;
        let session = text(&asked["session"]);
        let path = format!("/_matrix/client/v3/auth/{JWT}/fallback/web?session={session}");
        let page = server.text(Method::GET, &path, None, "").await;
        assert_eq!(page.status, 200);
        let shown = String::from_utf8(page.bytes.to_vec()).unwrap();
        assert!(shown.contains("in your app only"), "{shown}");
        let form = format!("token={}", token(&issued("bob", NOW)));
        let sent = server.text(Method::POST, &path, None, form).await;
        assert_eq!(sent.status, 400);
        let asked = delete(&bob, json!({ "session": session })).await;
        assert_eq!(asked.status, 401);
        assert_eq!(asked.body.get("completed"), None);
    })
    .await;
}
