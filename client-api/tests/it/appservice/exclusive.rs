//! What is a service's alone, nobody else makes.

use http::{Method, StatusCode};
use rhizome_client_api::{JwtAlgorithm, JwtClaims, JwtLogin};
use rhizome_storage::AccountFlag;
use ring::hmac;
use ruma::user_id;
use serde_json::{Value, json};
use std::sync::Arc;

use super::{Acting, IRC, story, story_with};
use crate::harness::{Server, esc};

/// A service that has all guests.
const GUESTS: &str = r"
id: guests
url: null
as_token: guests-token
hs_token: guests-hs-token
sender_localpart: guestbot
namespaces:
  users: [{exclusive: true, regex: '@guest-'}]
";

async fn post(server: &Server, path: &str, body: Value) -> (u16, Value) {
    let (status, answer) = server.request(Method::POST, path, None, Some(body)).await;
    (status.as_u16(), answer)
}

const REGISTER: &str = "/_matrix/client/v3/register";

#[tokio::test]
async fn people_get_no_name_of_a_services() {
    story(&[IRC], async |server| {
        let available = async |name: &str| {
            let path = format!("{REGISTER}/available?username={name}");
            let (status, answer) = server.request(Method::GET, &path, None, None).await;
            (status.as_u16(), answer["errcode"].clone())
        };
        let exclusive = (400, json!("M_EXCLUSIVE"));
        for name in ["irc_ann", "IRC_ann", "ircbot"] {
            let dummy = json!({ "type": "m.login.dummy" });
            let body = json!({ "username": name, "password": "a good password", "auth": dummy });
            let (status, error) = post(server, REGISTER, body).await;
            assert_eq!((status, error["errcode"].clone()), exclusive, "{name}");
            assert_eq!(available(name).await, exclusive, "{name}");
        }
        assert_eq!(available("ircfan").await.0, 200);
        server.register("ircfan").await;
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
async fn no_guest_has_a_name_of_a_services() {
    let guests = |config: &mut rhizome_client_api::ClientConfig| config.guests = true;
    for (services, status) in [(&[GUESTS][..], 400), (&[IRC][..], 200)] {
        story_with(services, guests, async |server| {
            let path = format!("{REGISTER}?kind=guest");
            let (found, answer) = post(server, &path, json!({})).await;
            assert_eq!(found, status, "{answer}");
            if status != 200 {
                assert_eq!(answer["errcode"], "M_EXCLUSIVE");
            }
        })
        .await;
    }
}

#[tokio::test]
async fn operators_tools_make_no_user_of_a_services() {
    let shared = |config: &mut rhizome_client_api::ClientConfig| {
        config.registration_shared_secret = Some("shared".into());
    };
    story_with(&[IRC], shared, async |server| {
        let path = "/_synapse/admin/v1/register";
        let (_, nonce) = server.request(Method::GET, path, None, None).await;
        let nonce = nonce["nonce"].as_str().unwrap();
        let message = [nonce, "irc_ann", "a good password", "notadmin"].join("\0");
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"shared");
        let tag = hmac::sign(&key, message.as_bytes());
        let digits = tag.as_ref().iter().map(|byte| format!("{byte:02x}"));
        let mac = digits.collect::<Vec<_>>().concat();
        let body = json!({ "nonce": nonce, "username": "irc_ann", "password": "a good password",
            "admin": false, "mac": mac });
        let (status, error) = post(server, path, body).await;
        assert_eq!((status, &error["errcode"]), (400, &json!("M_EXCLUSIVE")));
    })
    .await;
}

#[tokio::test]
async fn administrators_make_no_user_of_a_services() {
    story(&[IRC], async |server| {
        let ada = server.register("ada").await;
        let no = server.store.user_no(user_id!("@ada:here")).await.unwrap();
        let administers = server.store.set_account_flag(no, AccountFlag::Admin, true);
        assert!(administers.await.unwrap());
        let ask = async |method: Method, path: &str, body: Option<Value>| {
            let path = format!("/_synapse/admin{path}");
            let asked = server.request(method, &path, Some(&ada.token), body);
            let (status, answer) = asked.await;
            (status.as_u16(), answer)
        };
        let ann = format!("/v2/users/{}", esc("@irc_ann:here"));
        let wish = Some(json!({ "password": "a good password" }));
        let (status, error) = ask(Method::PUT, &ann, wish).await;
        assert_eq!((status, &error["errcode"]), (400, &json!("M_EXCLUSIVE")));
        let path = "/v1/username_available?username=irc_ann";
        let (status, error) = ask(Method::GET, path, None).await;
        assert_eq!((status, &error["errcode"]), (400, &json!("M_EXCLUSIVE")));
        // Those that there are can be looked after.
        Acting::of(server, "irc-token").makes("irc_ann").await;
        let wish = Some(json!({ "displayname": "Ann" }));
        let (status, user) = ask(Method::PUT, &ann, wish).await;
        assert_eq!(status, 200, "{user}");
        assert_eq!(user["appservice_id"], "irc");
        let own = format!("/v2/users/{}", esc("@ircbot:here"));
        assert_eq!(ask(Method::GET, &own, None).await.1["appservice_id"], "irc");
        let ada = format!("/v2/users/{}", esc(&ada.id));
        let (_, user) = ask(Method::GET, &ada, None).await;
        assert_eq!(user["appservice_id"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn a_token_of_the_operators_makes_no_user_of_a_services() {
    const SECRET: &str = "a secret of thirty-two characters";
    let jwt = |config: &mut rhizome_client_api::ClientConfig| {
        let claims = JwtClaims {
            issuer: None,
            audiences: Vec::new(),
            subject: "sub".into(),
            creates: true,
        };
        let algorithm = JwtAlgorithm::named("HS256").unwrap();
        config.jwt = Some(Arc::new(JwtLogin::new(algorithm, SECRET, claims).unwrap()));
    };
    story_with(&[IRC], jwt, async |server| {
        let login = async |name: &str| {
            use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
            let expires = server.store.clock().now_ms() / 1000 + 600;
            let parts = [json!({ "alg": "HS256" }), json!({ "sub": name, "exp": expires })];
            let parts = parts.map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
            let message = parts.join(".");
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
            let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
            let body = json!({ "type": "org.matrix.login.jwt", "token": format!("{message}.{signature}") });
            post(server, "/_matrix/client/v3/login", body).await
        };
        let (status, error) = login("irc_ann").await;
        assert_eq!((status, &error["errcode"]), (400, &json!("M_EXCLUSIVE")));
        assert_eq!(login("ada").await.0, StatusCode::OK.as_u16());
    })
    .await;
}

#[tokio::test]
async fn what_is_shared_is_for_everybody() {
    story(&[super::PUPPETS], async |server| {
        let ada = server.register("ada").await;
        let puppets = Acting::of(server, "puppets-token").as_user(&ada.id);
        assert_eq!(puppets.read("/account/whoami").await["user_id"], ada.id);
        let error = "M_EXCLUSIVE";
        let body = json!({ "username": "puppeteer", "password": "a good password",
            "auth": { "type": "m.login.dummy" } });
        let (status, answer) = post(server, REGISTER, body).await;
        assert_eq!(
            (status, &answer["errcode"]),
            (400, &json!(error)),
            "its own user isn't"
        );
    })
    .await;
}
