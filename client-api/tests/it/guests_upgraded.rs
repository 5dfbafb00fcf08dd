//! Guests become users, also when the answer to that is lost.

use http::{Method, StatusCode};
use rhizome_client_api::{ClientConfig, config::Registration};
use rhizome_storage::{Store, testing::each_database};
use serde_json::{Value, json};

use crate::harness::{Server, User};

const REGISTER: &str = "/_matrix/client/v3/register";
const TOKEN: &str = "m.login.registration_token";

async fn story(change: impl Fn(&mut ClientConfig), tell: impl AsyncFn(&Server)) {
    each_database(async |store: Store| {
        let server = Server::with(store, |config| {
            config.guests = true;
            change(config);
        });
        tell(&server).await;
    })
    .await;
}

async fn post(server: &Server, path: &str, body: Value) -> (StatusCode, Value) {
    server.request(Method::POST, path, None, Some(body)).await
}

async fn guest(server: &Server) -> User {
    let (status, answer) = post(server, &format!("{REGISTER}?kind=guest"), json!({})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    user_of(server, &answer)
}

fn user_of(server: &Server, answer: &Value) -> User {
    User {
        server: server.clone(),
        id: answer["user_id"].as_str().unwrap().to_owned(),
        token: answer["access_token"].as_str().unwrap().to_owned(),
    }
}

fn wish(guest: &User, auth: &Value) -> Value {
    let name = &guest.id.split_once(':').unwrap().0[1..];
    json!({ "username": name, "password": "a good password", "guest_access_token": guest.token,
        "auth": auth })
}

/// Asks for what it takes; gives the session.
async fn begin(server: &Server, guest: &User) -> String {
    let mut body = wish(guest, &Value::Null);
    body.as_object_mut().unwrap().remove("auth");
    let (status, asked) = post(server, REGISTER, body).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{asked}");
    asked["session"].as_str().unwrap().to_owned()
}

#[track_caller]
fn refused((status, error): (StatusCode, Value), with: u16, code: &str) {
    assert_eq!(
        (status.as_u16(), &error["errcode"]),
        (with, &json!(code)),
        "{error}"
    );
}

#[tokio::test]
async fn whose_answer_is_lost_asks_again() {
    let settings = |config: &mut ClientConfig| config.registration = Registration::Token;
    story(settings, async |server| {
        let added = server.store.add_registration_token("spring", Some(1), None);
        assert!(added.await.unwrap());
        let guest = guest(server).await;
        let id = begin(server, &guest).await;
        let auth = json!({ "type": TOKEN, "session": id, "token": "spring" });
        let body = wish(&guest, &auth);
        let (status, lost) = post(server, REGISTER, body.clone()).await;
        assert_eq!(status, StatusCode::OK, "{lost}");
        // The same account and device, and the token counts once.
        for auth in [auth.clone(), json!({ "session": id })] {
            let (status, again) = post(server, REGISTER, wish(&guest, &auth)).await;
            assert_eq!(status, StatusCode::OK, "{again}");
            for key in ["user_id", "device_id"] {
                assert_eq!(again[key], lost[key]);
            }
            let user = user_of(server, &again);
            assert_ne!(user.read("/account/whoami").await["is_guest"], true);
            let devices = user.read("/devices").await;
            assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
        }
        let tokens = server
            .store
            .registration_tokens(None, (0, 9))
            .await
            .unwrap();
        assert_eq!((tokens[0].pending, tokens[0].completed), (0, 1));
        // Nobody else gets in by that, nor another name.
        let mut other = body.clone();
        other["password"] = "a guess".into();
        refused(post(server, REGISTER, other).await, 400, "M_USER_IN_USE");
        let mut other = body.clone();
        other["username"] = "eve".into();
        refused(post(server, REGISTER, other).await, 403, "M_FORBIDDEN");
        let mut other = body.clone();
        other["auth"]["session"] = "guess".into();
        refused(post(server, REGISTER, other).await, 403, "M_FORBIDDEN");
        // Nor is it the session of a registration.
        let mut other = body.clone();
        other.as_object_mut().unwrap().remove("guest_access_token");
        refused(post(server, REGISTER, other).await, 400, "M_USER_IN_USE");
        // No session, if none is wanted.
        let mut without = body;
        without["inhibit_login"] = true.into();
        let (status, answer) = post(server, REGISTER, without).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer.get("access_token"), None);
    })
    .await;
}

/// A client sends the last request several times at once.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_at_once_makes_one_user() {
    story(
        |_| {},
        async |server| {
            let guest = guest(server).await;
            let id = begin(server, &guest).await;
            let auth = json!({ "type": "m.login.dummy", "session": id });
            let asking = (0..5).map(|_| {
                let (server, body) = (server.clone(), wish(&guest, &auth));
                tokio::spawn(async move { post(&server, REGISTER, body).await })
            });
            let mut devices = Vec::new();
            for answer in asking.collect::<Vec<_>>() {
                let (status, answer) = answer.await.unwrap();
                assert_eq!(status, StatusCode::OK, "{answer}");
                assert_eq!(answer["user_id"], guest.id.as_str());
                devices.push(answer["device_id"].clone());
            }
            devices.dedup();
            assert_eq!(devices.len(), 1, "{devices:?}");
        },
    )
    .await;
}

/// Killed before the guest was made a user: what was proved is still there.
#[tokio::test]
async fn what_was_begun_is_gone_on_with() {
    let settings = |config: &mut ClientConfig| config.registration = Registration::Token;
    story(settings, async |server| {
        let added = server.store.add_registration_token("spring", Some(1), None);
        assert!(added.await.unwrap());
        let guest = guest(server).await;
        let id = begin(server, &guest).await;
        let now = server.store.clock().now_ms();
        let session = server.store.uia_session(&id, now).await.unwrap().unwrap();
        let reserved = server
            .store
            .reserve_registration_token("spring", &id, session.expires_ms);
        assert!(reserved.await.unwrap());
        let purpose = format!("upgraded {} PHONE", guest.id);
        let proofs = json!([[TOKEN, { "token": "spring" }]]).to_string();
        let moved = server.store.move_uia_session(&session, &purpose, &proofs);
        assert!(moved.await.unwrap());
        // It still takes the guest's token.
        let mut other = wish(&guest, &json!({ "session": id }));
        other["guest_access_token"] = "guess".into();
        refused(post(server, REGISTER, other).await, 403, "M_FORBIDDEN");
        let body = wish(&guest, &json!({ "session": id }));
        let (status, made) = post(server, REGISTER, body).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        assert_eq!(made["device_id"], "PHONE");
        let tokens = server
            .store
            .registration_tokens(None, (0, 9))
            .await
            .unwrap();
        assert_eq!((tokens[0].pending, tokens[0].completed), (0, 1));
    })
    .await;
}
