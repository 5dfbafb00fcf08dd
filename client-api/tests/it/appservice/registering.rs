//! Services make accounts, and log in to them.

use http::{Method, StatusCode};
use ruma::user_id;
use serde_json::{Value, json};

use super::{Acting, IRC, PUPPETS, TYPE, story, story_with};
use crate::harness::{Server, User};

async fn post(server: &Server, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
    let path = format!("/_matrix/client/v3{path}");
    let (status, answer) = server.request(Method::POST, &path, token, Some(body)).await;
    (status.as_u16(), answer)
}

/// Who has got a session.
fn user(server: &Server, answer: &Value) -> User {
    User {
        server: server.clone(),
        id: answer["user_id"].as_str().unwrap().to_owned(),
        token: answer["access_token"].as_str().unwrap().to_owned(),
    }
}

#[tokio::test]
async fn services_register_users_though_nobody_else_may() {
    let closed = |config: &mut rhizome_client_api::ClientConfig| {
        config.registration = rhizome_client_api::config::Registration::Closed;
    };
    story_with(&[IRC], closed, async |server| {
        let body = json!({ "type": TYPE, "username": "irc_ann", "device_id": "ONE",
            "initial_device_display_name": "bridge" });
        let (status, answer) = post(server, "/register", Some("irc-token"), body.clone()).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(
            (&answer["user_id"], &answer["device_id"]),
            (&json!("@irc_ann:here"), &json!("ONE"))
        );
        let ann = user(server, &answer);
        assert_eq!(ann.read("/account/whoami").await["device_id"], "ONE");
        assert_eq!(ann.read("/devices/ONE").await["display_name"], "bridge");
        let account = server
            .store
            .account(user_id!("@irc_ann:here"))
            .await
            .unwrap();
        assert_eq!(account.unwrap().password_hash, None);
        let (status, error) = post(server, "/register", Some("irc-token"), body).await;
        assert_eq!((status, &error["errcode"]), (400, &json!("M_USER_IN_USE")));
    })
    .await;
}

#[tokio::test]
async fn it_takes_the_token_of_a_service() {
    story(&[IRC], async |server| {
        let ada = server.register("ada").await;
        for (path, body) in [
            ("/register", json!({ "type": TYPE, "username": "irc_ann" })),
            (
                "/login",
                json!({ "type": TYPE, "identifier": { "type": "m.id.user", "user": "irc_ann" } }),
            ),
        ] {
            for (token, code) in [
                (None, "M_MISSING_TOKEN"),
                (Some("nobody's"), "M_UNKNOWN_TOKEN"),
                (Some(ada.token.as_str()), "M_UNKNOWN_TOKEN"),
                (Some("irc-hs-token"), "M_UNKNOWN_TOKEN"),
            ] {
                let (status, error) = post(server, path, token, body.clone()).await;
                assert_eq!(
                    (status, &error["errcode"]),
                    (401, &json!(code)),
                    "{path} {token:?}"
                );
            }
        }
        assert_eq!(
            server
                .store
                .account(user_id!("@irc_ann:here"))
                .await
                .unwrap(),
            None
        );
    })
    .await;
}

#[tokio::test]
async fn a_service_registers_users_of_its_namespaces_alone() {
    story(&[IRC, PUPPETS], async |server| {
        let irc = Acting::of(server, "irc-token");
        let puppets = Acting::of(server, "puppets-token");
        let wish = |name: &str| json!({ "type": TYPE, "username": name, "inhibit_login": true });
        for (service, name, code) in [
            (&irc, "ada", "M_EXCLUSIVE"),
            (&irc, "puppeteer", "M_EXCLUSIVE"),
            // Another's alone, though it is in its own namespace too.
            (&puppets, "irc_bob", "M_EXCLUSIVE"),
            (&puppets, "ircbot", "M_EXCLUSIVE"),
            (&irc, "irc_Ann", "M_INVALID_USERNAME"),
            (&irc, "irc_a b", "M_INVALID_USERNAME"),
            (&irc, "ircbot", "M_USER_IN_USE"),
        ] {
            let refusal = (400, code);
            service
                .refused(Method::POST, "/register", wish(name), refusal)
                .await;
        }
        let without = json!({ "type": TYPE, "inhibit_login": true });
        irc.refused(Method::POST, "/register", without, (400, "M_MISSING_PARAM"))
            .await;
        let odd = json!({ "type": "m.login.magic", "username": "irc_ann" });
        irc.refused(Method::POST, "/register", odd, (400, "M_INVALID_PARAM"))
            .await;
        puppets.makes("eve").await;
        // Who is named in the query is no matter here: it may be whoever is to come.
        let ann = irc.as_user("@irc_ann:here");
        ann.ok(Method::POST, "/register", wish("irc_ann")).await;
    })
    .await;
}

#[tokio::test]
async fn services_log_in_as_users_of_their_namespaces() {
    story(&[IRC], async |server| {
        let flows = async || {
            let path = "/_matrix/client/v3/login";
            let (_, answer) = server.request(Method::GET, path, None, None).await;
            let flows = answer["flows"].as_array().unwrap().clone();
            flows.iter().any(|flow| flow["type"] == TYPE)
        };
        assert!(flows().await);
        server.register("ada").await;
        let irc = Acting::of(server, "irc-token");
        irc.makes("irc_ann").await;
        let login = async |user: &str| {
            let identifier = json!({ "type": "m.id.user", "user": user });
            let body = json!({ "type": TYPE, "identifier": identifier, "device_id": "TWO" });
            post(server, "/login", Some("irc-token"), body).await
        };
        for name in ["irc_ann", "@irc_ann:here"] {
            let (status, answer) = login(name).await;
            assert_eq!(status, 200, "{answer}");
            let who = user(server, &answer).read("/account/whoami").await;
            assert_eq!(
                (&who["user_id"], &who["device_id"]),
                (&json!("@irc_ann:here"), &json!("TWO"))
            );
        }
        for (name, status, code) in [
            ("ada", 400, "M_EXCLUSIVE"),
            ("@irc_ann:there", 400, "M_EXCLUSIVE"),
            ("irc_nobody", 403, "M_FORBIDDEN"),
        ] {
            let (found, error) = login(name).await;
            assert_eq!((found, &error["errcode"]), (status, &json!(code)), "{name}");
        }
        let no = server
            .store
            .user_no(user_id!("@irc_ann:here"))
            .await
            .unwrap();
        server.store.deactivate_account(no, false).await.unwrap();
        let (status, error) = login("irc_ann").await;
        assert_eq!(
            (status, &error["errcode"]),
            (403, &json!("M_USER_DEACTIVATED"))
        );
        server
            .federation
            .services()
            .replace(super::registrations(&[]));
        assert!(!flows().await);
    })
    .await;
}

#[tokio::test]
async fn a_service_that_makes_its_devices_itself_gets_no_tokens() {
    story(&[PUPPETS], async |server| {
        let puppets = Acting::of(server, "puppets-token");
        let refusal = (400, "M_APPSERVICE_LOGIN_UNSUPPORTED");
        let body = json!({ "type": TYPE, "username": "eve" });
        puppets
            .refused(Method::POST, "/register", body, refusal)
            .await;
        assert_eq!(
            server.store.account(user_id!("@eve:here")).await.unwrap(),
            None
        );
        puppets.makes("eve").await;
        let identifier = json!({ "type": "m.id.user", "user": "eve" });
        let body = json!({ "type": TYPE, "identifier": identifier });
        puppets.refused(Method::POST, "/login", body, refusal).await;
    })
    .await;
}

#[tokio::test]
async fn a_users_own_token_at_a_login_is_no_matter() {
    story(&[IRC], async |server| {
        let ada = server.register("ada").await;
        let body = json!({ "type": "m.login.password", "password": "a good password",
            "identifier": { "type": "m.id.user", "user": "ada" } });
        for token in [
            Some(ada.token.as_str()),
            Some("nobody's"),
            Some("irc-token"),
            None,
        ] {
            let (status, answer) = post(server, "/login", token, body.clone()).await;
            assert_eq!(status, StatusCode::OK.as_u16(), "{token:?} {answer}");
            assert_eq!(answer["user_id"], ada.id);
        }
    })
    .await;
}
