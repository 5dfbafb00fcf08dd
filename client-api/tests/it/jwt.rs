//! Logging in with tokens of the operator's own system.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Method;
use rhizome_client_api::{ClientConfig, JwtAlgorithm, JwtClaims, JwtLogin};
use ring::hmac;
use serde_json::{Value, json};

use crate::{
    accounts::LOGIN,
    asking::{HttpAnswer, START_MS, Server, config, each_server_with},
};

const SECRET: &str = "a secret of more than thirty-two bytes";

pub fn with_jwt(creates: bool) -> ClientConfig {
    let claims = JwtClaims {
        subject: "sub".into(),
        creates,
        ..JwtClaims::default()
    };
    let login = JwtLogin::new(JwtAlgorithm::Hs256, SECRET, claims).unwrap();
    let mut config = config();
    config.jwt = Some(Arc::new(login));
    config
}

pub fn token(payload: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&json!({ "alg": "HS256" })), part(payload));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub async fn log_in(server: &Server, payload: &Value) -> HttpAnswer {
    let body = json!({ "type": "org.matrix.login.jwt", "token": token(payload) });
    server.ask(Method::POST, LOGIN, body).await
}

#[tokio::test]
async fn who_has_a_token_of_the_operators_gets_in() {
    each_server_with(
        || with_jwt(false),
        async |server| {
            let ada = server.register("ada").await;
            let flows = server.ask(Method::GET, LOGIN, Value::Null).await.ok();
            let offered = json!({ "type": "org.matrix.login.jwt" });
            assert!(flows["flows"].as_array().unwrap().contains(&offered));
            let until = START_MS / 1000 + 300;
            let session = log_in(&server, &json!({ "sub": "ada", "exp": until })).await;
            let again = server.user_of(&session.ok());
            assert_eq!(again.id, ada.id);
            again.get("/account/whoami").await.ok();
            let late = json!({ "sub": "ada", "exp": START_MS / 1000 - 300 });
            log_in(&server, &late).await.fails(403, "M_FORBIDDEN");
            let unknown = log_in(&server, &json!({ "sub": "bob", "exp": until })).await;
            unknown.fails(403, "M_FORBIDDEN");
            // One that is good for ever, or for long, is none.
            for payload in [
                json!({ "sub": "ada" }),
                json!({ "sub": "ada", "exp": until + 2 * 24 * 3600 }),
            ] {
                let endless = log_in(&server, &payload).await;
                endless.fails(403, "M_FORBIDDEN");
            }
            let body = json!({ "type": "org.matrix.login.jwt", "token": "x.y.z" });
            let nonsense = server.ask(Method::POST, LOGIN, body).await;
            nonsense.fails(403, "M_FORBIDDEN");
        },
    )
    .await;
}

#[tokio::test]
async fn accounts_are_made_if_the_operator_wants_it() {
    each_server_with(
        || with_jwt(true),
        async |server| {
            let until = START_MS / 1000 + 300;
            let named = |name: &str| json!({ "sub": name, "exp": until });
            for _ in 0..2 {
                let session = log_in(&server, &named("bob")).await.ok();
                assert_eq!(session["user_id"], "@bob:here.test");
            }
            // Where capitals make a difference, that is somebody else.
            let other = log_in(&server, &named("Bob")).await;
            other.fails(403, "M_FORBIDDEN");
            let odd = log_in(&server, &named("not valid")).await;
            odd.fails(400, "M_INVALID_USERNAME");
        },
    )
    .await;
}

#[tokio::test]
async fn names_that_the_operator_keeps_are_nobodys() {
    let settings = || {
        let mut config = with_jwt(true);
        config.registration_rules.reserved_names = vec!["root".into()];
        config
    };
    each_server_with(settings, async |server| {
        let until = START_MS / 1000 + 300;
        let kept = log_in(&server, &json!({ "sub": "root", "exp": until })).await;
        kept.fails(400, "M_INVALID_USERNAME");
    })
    .await;
}

#[tokio::test]
async fn without_a_setting_it_is_no_way_in() {
    each_server_with(config, async |server| {
        server.register("ada").await;
        let answer = log_in(&server, &json!({ "sub": "ada" })).await;
        answer.fails(400, "M_UNKNOWN");
    })
    .await;
}
