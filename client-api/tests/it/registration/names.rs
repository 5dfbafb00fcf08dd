//! Names that people may have, and what they are called at first.

use http::{Method, StatusCode};
use rhizome_client_api::{ClientConfig, config::Notices};
use serde_json::{Value, json};

use super::{ok, refused, register, story};
use crate::harness::Server;

async fn available(server: &Server, name: &str) -> (StatusCode, Value) {
    let path = format!("/_matrix/client/v3/register/available?username={name}");
    server.request(Method::GET, &path, None, None).await
}

#[tokio::test]
async fn the_operator_keeps_names() {
    let settings = |config: &mut ClientConfig| {
        let rules = &mut config.registration_rules;
        rules.allowed_names = vec!["*.*".into()];
        rules.reserved_names = vec!["admin*".into(), "*.support".into()];
        config.notices = Some(Notices {
            user: "@the.server:here".try_into().unwrap(),
            display_name: None,
            avatar_url: None,
            room_name: None,
        });
    };
    story(settings, async |server| {
        for name in ["ada", "admin.1", "Admin.2", "our.support", "the.server"] {
            refused(available(server, name).await, 400, "M_INVALID_USERNAME");
            let auth = json!({ "type": "m.login.dummy" });
            refused(
                register(server, name, auth).await,
                400,
                "M_INVALID_USERNAME",
            );
            // Before anything is asked.
            refused(
                register(server, name, Value::Null).await,
                400,
                "M_INVALID_USERNAME",
            );
        }
        assert_eq!(ok(available(server, "ada.l").await)["available"], true);
        let auth = json!({ "type": "m.login.dummy" });
        ok(register(server, "ada.l", auth.clone()).await);
        // Who names none gets one.
        let body = json!({ "password": "p", "auth": auth });
        ok(super::post(server, super::REGISTER, body).await);
    })
    .await;
}

#[tokio::test]
async fn people_are_called_as_their_id_says() {
    let settings = |config: &mut ClientConfig| config.registration_rules.nameless = false;
    story(settings, async |server| {
        let ada = server.register("Ada").await;
        let profile = ada.read("/profile/@ada:here").await;
        assert_eq!(profile, json!({ "displayname": "ada" }));
        let room = ada.create_public().await;
        let path = format!("/rooms/{room}/state/m.room.member/@ada:here");
        assert_eq!(ada.read(&path).await["displayname"], "ada");
    })
    .await;
}
