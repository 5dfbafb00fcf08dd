//! Who has just given their password needn't give it again on the same device, if the operator wants it so.

use std::time::Duration;

use http::Method;
use rhizome_client_api::ClientConfig;
use rhizome_storage::{Clock, Options, Store, testing::TestDatabase};
use serde_json::{Value, json};

use crate::{
    accounts::{LOGIN, password},
    asking::{HttpAnswer, START_MS, Server, User, config, each_server, each_server_with, text},
    e2ee::signer::Signer,
};

const GET_TOKEN: &str = "/_matrix/client/v1/login/get_token";
const WINDOW: Duration = Duration::from_mins(10);

fn with_window() -> ClientConfig {
    let mut config = config();
    config.reauthentication_window = WINDOW;
    config
}

/// A device more, to be deleted; whoever has it proves nothing of others.
async fn spare(server: &Server) -> String {
    server.login("ada").await.device
}

async fn delete(user: &User, device: &str, body: Value) -> HttpAnswer {
    user.delete(&format!("/devices/{device}"), body).await
}

/// Whether the user of a device can delete another one without giving their password.
async fn may(user: &User) -> bool {
    let device = spare(&user.server).await;
    let answer = delete(user, &device, json!({})).await;
    if answer.status == 401 {
        assert!(answer.body["session"].is_string(), "{:?}", answer.body);
        return false;
    }
    answer.ok();
    true
}

fn confirmed(guess: &str) -> Value {
    json!({ "auth": password("ada", guess) })
}

async fn login_token(user: &User, body: Value) -> HttpAnswer {
    let token = Some(user.token.as_str());
    let server = &user.server;
    let asked = server.text(Method::POST, GET_TOKEN, token, body.to_string());
    asked.await
}

/// Another master key.
async fn replace_keys(user: &User, seed: u8) -> HttpAnswer {
    let master = Signer::cross_signing(&user.id, seed).as_key("master");
    let body = json!({ "master_key": master });
    user.post("/keys/device_signing/upload", body).await
}

/// A millisecond less.
fn just_before(time: Duration) -> Duration {
    time.saturating_sub(Duration::from_millis(1))
}

#[tokio::test]
async fn a_password_counts_for_a_while_for_what_it_may() {
    each_server_with(with_window, async |server| {
        let ada = server.register("ada").await;
        replace_keys(&ada, 1).await.ok();
        let other = server.login("ada").await;
        for user in [&ada, &other] {
            assert!(may(user).await);
            let gone = json!({ "devices": [spare(&server).await] });
            user.post("/delete_devices", gone).await.ok();
            login_token(user, json!({})).await.ok();
        }
        replace_keys(&ada, 2).await.ok();
        // What would take the account away isn't done without it.
        for (path, body) in [
            ("/account/password", json!({ "new_password": "another" })),
            ("/account/deactivate", json!({})),
        ] {
            let asked = ada.post(path, body).await;
            assert_eq!(asked.status, 401, "{path}");
            let flows = json!([{ "stages": ["m.login.password"] }]);
            assert_eq!(asked.body["flows"], flows, "{path}");
        }

        server.advance(just_before(WINDOW));
        assert!(may(&ada).await && may(&other).await);
        server.advance(Duration::from_millis(1));
        assert!(!may(&ada).await && !may(&other).await);
        assert_eq!(login_token(&ada, json!({})).await.status, 401);
        assert_eq!(replace_keys(&ada, 3).await.status, 401);

        // Who confirms something goes on there for a while, and nowhere else.
        let device = spare(&server).await;
        let wrong = delete(&ada, &device, confirmed("guess")).await;
        wrong.fails(401, "M_FORBIDDEN");
        assert!(!may(&ada).await);
        delete(&ada, &device, confirmed("secret")).await.ok();
        server.advance(just_before(WINDOW));
        assert!(may(&ada).await && !may(&other).await);
        replace_keys(&ada, 3).await.ok();
        // That it was needed no more doesn't make it last longer.
        server.advance(Duration::from_millis(1));
        assert!(!may(&ada).await);
    })
    .await;
}

#[tokio::test]
async fn it_is_asked_for_each_time_without_the_setting() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        assert!(!may(&ada).await);
        let device = spare(&server).await;
        delete(&ada, &device, confirmed("secret")).await.ok();
        assert!(!may(&ada).await);
        // Nor does it count once there is one.
        assert_eq!(login_token(&ada, json!({})).await.status, 401);
    })
    .await;
}

#[tokio::test]
async fn what_a_token_does_proves_nothing() {
    each_server_with(with_window, async |server| {
        let ada = server.register("ada").await;
        let given = login_token(&ada, json!({})).await.ok();
        let by_token = json!({ "type": "m.login.token", "token": given["login_token"] });
        let session = server.ask(Method::POST, LOGIN, by_token).await.ok();
        let tablet = server.user_of(&session);
        assert!(!may(&tablet).await);
        // Another session of a device that proved it.
        let given = login_token(&ada, json!({})).await.ok();
        let by_token = json!({ "type": "m.login.token", "token": given["login_token"],
            "device_id": ada.device });
        let session = server.ask(Method::POST, LOGIN, by_token).await.ok();
        assert_eq!(session["device_id"], ada.device.as_str());
        assert!(!may(&server.user_of(&session)).await);

        // Nor does a refresh make it longer, or end it.
        let mut login = password("ada", "secret");
        login["refresh_token"] = true.into();
        let session = server.ask(Method::POST, LOGIN, login).await.ok();
        let mut phone = server.user_of(&session);
        server.advance(WINDOW / 2);
        let old = json!({ "refresh_token": session["refresh_token"] });
        let path = "/_matrix/client/v3/refresh";
        let renewed = server.ask(Method::POST, path, old).await.ok();
        phone.token = text(&renewed["access_token"]);
        assert!(may(&phone).await);
        server.advance(WINDOW / 2);
        assert!(!may(&phone).await);
    })
    .await;
}

#[tokio::test]
async fn what_another_password_proved_is_proved_no_more() {
    each_server_with(with_window, async |server| {
        let ada = server.register("ada").await;
        let other = server.login("ada").await;
        let (first, second) = (spare(&server).await, spare(&server).await);
        let mut change = confirmed("secret");
        change["new_password"] = "another".into();
        change["logout_devices"] = false.into();
        ada.post("/account/password", change).await.ok();
        for user in [&ada, &other] {
            let asked = delete(user, &first, json!({})).await;
            assert_eq!(asked.status, 401);
        }
        let old = delete(&other, &first, confirmed("secret")).await;
        old.fails(401, "M_FORBIDDEN");
        delete(&other, &first, confirmed("another")).await.ok();
        delete(&other, &second, json!({})).await.ok();
    })
    .await;
}

/// It stands in the database: another process knows it, and so does the next one.
#[tokio::test]
async fn all_processes_know_what_was_proved() {
    let database = TestDatabase::postgres().await;
    let clock = Clock::manual(START_MS);
    let open = async || {
        let options = Options {
            clock: clock.clone(),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        Server::new(store, clock.clone(), with_window())
    };
    let (one, two) = (open().await, open().await);
    let ada = one.register("ada").await;
    let there = |server: &Server| User {
        server: server.clone(),
        ..ada.clone()
    };
    assert!(may(&there(&two)).await);
    clock.advance(WINDOW);
    assert!(!may(&there(&two)).await);
    let device = spare(&one).await;
    let ask = delete(&there(&two), &device, confirmed("secret")).await;
    ask.ok();
    assert!(may(&ada).await);
    for server in [one, two] {
        server.app.store.close().await;
    }
    clock.advance(WINDOW / 2);
    let three = open().await;
    assert!(may(&there(&three)).await);
    clock.advance(WINDOW / 2);
    assert!(!may(&there(&three)).await);
    three.app.store.close().await;
    database.remove().await;
}
