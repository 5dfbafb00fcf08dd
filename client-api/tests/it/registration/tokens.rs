//! Registration tokens.

use std::time::Duration;

use http::{Method, StatusCode};
use rhizome_client_api::{ClientConfig, config::Registration};
use serde_json::{Value, json};

use super::{
    REGISTER, TERMS, TOKEN, challenged, ok, post, refused, register, session, story, token,
    token_and_terms, uses,
};
use crate::asking::{config, each_server_with};
use crate::harness::Server;

fn by_token(config: &mut ClientConfig) {
    config.registration = Registration::Token;
}

fn validity(token: &str) -> String {
    format!("/_matrix/client/v1/register/m.login.registration_token/validity?token={token}")
}

async fn is_valid(server: &Server, token: &str) -> bool {
    let path = validity(token);
    let answer = server.request(Method::GET, &path, None, None).await;
    ok(answer)["valid"].as_bool().unwrap()
}

#[tokio::test]
async fn a_token_is_good_for_so_many_accounts() {
    story(by_token, async |server| {
        assert!(!is_valid(server, "one").await);
        token(server, "one", Some(1)).await;
        token(server, "many", None).await;
        assert!(is_valid(server, "one").await && is_valid(server, "many").await);
        assert!(!is_valid(server, "").await && !is_valid(server, "%00").await);
        // A flow of one stage needs no session.
        let with = |token: &str| json!({ "type": TOKEN, "token": token });
        let made = ok(register(server, "ada", with("one")).await);
        assert_eq!(made["user_id"], "@ada:here");
        assert_eq!(uses(server, "one").await, (0, 1));
        assert!(!is_valid(server, "one").await);
        challenged(
            register(server, "bob", with("one")).await,
            Some("M_UNAUTHORIZED"),
            &[],
        );
        for name in ["bob", "eve"] {
            ok(register(server, name, with("many")).await);
        }
        assert_eq!(uses(server, "many").await, (0, 2));
        // A registration that fails for something else takes none.
        refused(
            register(server, "bob", with("many")).await,
            400,
            "M_USER_IN_USE",
        );
        assert_eq!(uses(server, "many").await, (0, 2));
        assert!(
            server
                .store
                .delete_registration_token("many")
                .await
                .unwrap()
        );
        challenged(
            register(server, "kim", with("many")).await,
            Some("M_UNAUTHORIZED"),
            &[],
        );
    })
    .await;
}

#[tokio::test]
async fn where_nobody_registers_no_token_is_good() {
    let closed = |config: &mut ClientConfig| config.registration = Registration::Closed;
    story(closed, async |server| {
        token(server, "one", None).await;
        let answer = server
            .request(Method::GET, &validity("one"), None, None)
            .await;
        refused(answer, 403, "M_FORBIDDEN");
        let auth = json!({ "type": TOKEN, "token": "one" });
        refused(register(server, "ada", auth).await, 403, "M_FORBIDDEN");
    })
    .await;
}

/// Of many who want the last uses at once, as many get them as there are.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_uses_are_given_once() {
    story(by_token, async |server| {
        token(server, "three", Some(3)).await;
        let asking = (0..12).map(|n| {
            let server = server.clone();
            let auth = json!({ "type": TOKEN, "token": "three" });
            tokio::spawn(async move { register(&server, &format!("u{n}"), auth).await })
        });
        let mut made = 0;
        for answer in asking.collect::<Vec<_>>() {
            let (status, answer) = answer.await.unwrap();
            if status == StatusCode::OK {
                made += 1;
            } else {
                challenged((status, answer), Some("M_UNAUTHORIZED"), &[]);
            }
        }
        assert_eq!(made, 3);
        assert_eq!(uses(server, "three").await, (0, 3));
    })
    .await;
}

/// Who begins and doesn't go on gives the use back when the session ends.
#[tokio::test]
async fn a_use_that_is_held_comes_back() {
    let settings = || {
        let mut config = config();
        token_and_terms(&mut config);
        config
    };
    each_server_with(settings, async |server| {
        let store = &server.app.store;
        let until = store.clock().now_ms() + 3 * 3_600_000;
        let added = store.add_registration_token("one", Some(1), Some(until));
        assert!(added.await.unwrap());
        let valid = async || {
            let answer = server.ask(Method::GET, &validity("one"), Value::Null).await;
            answer.ok()["valid"].as_bool().unwrap()
        };
        let body = json!({ "username": "ada", "password": "p",
            "auth": { "type": TOKEN, "token": "one" } });
        let answer = server.ask(Method::POST, REGISTER, body.clone()).await;
        assert_eq!(answer.body["completed"], json!([TOKEN]));
        assert!(!valid().await);
        server.advance(Duration::from_hours(1));
        assert!(valid().await);
        let answer = server.ask(Method::POST, REGISTER, body).await;
        assert_eq!(answer.body["completed"], json!([TOKEN]));
        server.advance(Duration::from_hours(2));
        assert!(!valid().await, "its time is over");
    })
    .await;
}

/// Being a guest first is no way around it.
#[tokio::test]
async fn guests_need_one_too() {
    let settings = |config: &mut ClientConfig| {
        config.guests = true;
        by_token(config);
    };
    story(settings, async |server| {
        token(server, "one", Some(1)).await;
        let path = format!("{REGISTER}?kind=guest");
        let guest = ok(post(server, &path, json!({})).await);
        let name = guest["user_id"].as_str().unwrap().split_once(':').unwrap();
        let wish = |auth: Value| {
            json!({ "username": &name.0[1..], "password": "a good password", "auth": auth,
                "guest_access_token": guest["access_token"] })
        };
        let dummy = json!({ "type": "m.login.dummy" });
        let answer = post(server, REGISTER, wish(dummy)).await;
        challenged(answer, Some("M_FORBIDDEN"), &[]);
        let auth = json!({ "type": TOKEN, "token": "one" });
        let made = ok(post(server, REGISTER, wish(auth)).await);
        assert_eq!(made["user_id"], guest["user_id"]);
        assert_eq!(uses(server, "one").await, (0, 1));
    })
    .await;
}

/// A name that somebody else takes meanwhile costs nothing of what was proved.
#[tokio::test]
async fn whose_name_is_taken_meanwhile_tries_another() {
    story(token_and_terms, async |server| {
        token(server, "two", Some(2)).await;
        let auth = json!({ "type": TOKEN, "token": "two" });
        let id = session(&register(server, "ada", auth.clone()).await);
        // All is proved, and the server stops before the account is there.
        let before = server.store.uia_session(&id, 0).await.unwrap().unwrap();
        let proofs = json!([[TOKEN, { "token": "two" }], [TERMS, { "privacy": "1.2" }]]);
        let (purpose, proofs) = ("registered @ada:here PHONE", proofs.to_string());
        let moved = server.store.move_uia_session(&before, purpose, &proofs);
        assert!(moved.await.unwrap());
        let other = session(&register(server, "ada", auth).await);
        let terms = json!({ "type": TERMS, "session": other });
        ok(register(server, "ada", terms).await);
        let wish = |name: &str| {
            json!({ "username": name, "password": "another good password", "auth": { "session": id } })
        };
        refused(post(server, REGISTER, wish("ada")).await, 400, "M_USER_IN_USE");
        let made = ok(post(server, REGISTER, wish("bob")).await);
        assert_eq!(made["user_id"], "@bob:here");
        assert_eq!(uses(server, "two").await, (0, 2));
        // Once: what was proved has served.
        refused(
            post(server, REGISTER, json!({ "username": "bob", "password": "guess", "auth": { "session": id } })).await,
            400,
            "M_USER_IN_USE",
        );
        challenged(post(server, REGISTER, wish("eve")).await, Some("M_UNKNOWN"), &[]);
    })
    .await;
}
