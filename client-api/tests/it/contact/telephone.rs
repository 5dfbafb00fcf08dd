//! Telephone numbers.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, extract::State, http::HeaderMap, routing::post};
use http::{Method, StatusCode};
use rhizome_client_api::{ClientConfig, config::Sms};
use ruma::server_name;
use serde_json::{Value, json};

use super::{World, add, addresses, each, each_with, refused};

/// Who sends text messages.
#[derive(Clone, Default)]
struct Sender {
    got: Arc<Mutex<Vec<(String, String)>>>,
    says: Arc<Mutex<Option<u16>>>,
}

impl Sender {
    fn attach(world: &World) -> Self {
        let sender = Self::default();
        let send =
            async |State(sender): State<Self>, headers: HeaderMap, Json(told): Json<Value>| {
                assert_eq!(headers["authorization"], "Bearer for the sender");
                if let Some(status) = sender.says.lock().unwrap().take() {
                    return StatusCode::from_u16(status).unwrap();
                }
                let text = |key: &str| told[key].as_str().unwrap().to_owned();
                sender.got.lock().unwrap().push((text("to"), text("text")));
                StatusCode::ACCEPTED
            };
        let router = Router::new().route("/send", post(send));
        world.network.attach(
            server_name!("sms.example"),
            router.with_state(sender.clone()),
        );
        sender
    }

    /// The code in the last message, which went to this number.
    fn code(&self, to: &str) -> String {
        let (last, text) = self.got.lock().unwrap().last().unwrap().clone();
        assert_eq!(last, to);
        let is_code = |word: &&str| word.len() == 8 && word.bytes().all(|b| b.is_ascii_digit());
        text.split(' ')
            .find(is_code)
            .unwrap_or_else(|| panic!("{text}"))
            .to_owned()
    }
}

fn settings(config: &mut ClientConfig) {
    config.identity.sms = Some(Sms {
        url: "https://sms.example/send".to_owned(),
        token: Some("for the sender".to_owned()),
    });
    config.registration_rules.phone = rhizome_client_api::config::ContactRule::Optional;
}

async fn ask(world: &World, what: &str, country: &str, number: &str) -> (u16, Value) {
    let body = json!({
        "client_secret": "secret", "country": country, "phone_number": number, "send_attempt": 1,
    });
    world
        .post(&format!("{what}/msisdn/requestToken"), body)
        .await
}

#[tokio::test]
async fn a_number_is_confirmed_by_a_message() {
    each_with(settings, async |world| {
        let sender = Sender::attach(world);
        let ada = world.server.register("ada").await;
        let (status, begun) = ask(world, "/account/3pid", "GB", "07700 900001").await;
        assert_eq!(status, 200, "{begun}");
        let sid = begun["sid"].as_str().unwrap();
        refused(add(&ada, sid).await, 400, "M_THREEPID_AUTH_FAILED");
        let code = sender.code("+447700900001");
        assert_eq!(world.submit(sid, "secret", &code).await.0, 200);
        assert_eq!(add(&ada, sid).await.0, 200);
        assert_eq!(addresses(&ada).await, ["447700900001"]);
        let in_use = ask(world, "/register", "US", "+44 7700 900001").await;
        refused(in_use, 400, "M_THREEPID_IN_USE");
        assert_eq!(ask(world, "/register", "US", "(202) 555-0100").await.0, 200);
        sender.code("+12025550100");
        // A login by it.
        let identifier = json!({ "type": "m.id.phone", "country": "GB", "phone": "07700900001" });
        let body = json!({ "type": "m.login.password", "identifier": identifier, "password": "a good password" });
        assert_eq!(world.post("/login", body).await.0, 200);
        // A new password.
        let (_, asked) = world.post("/account/password", json!({ "new_password": "x" })).await;
        let flows = json!([{ "stages": ["m.login.email.identity"] }, { "stages": ["m.login.msisdn"] }]);
        assert_eq!(asked["flows"], flows);
        let (_, begun) = ask(world, "/account/password", "GB", "07700900001").await;
        let sid = begun["sid"].as_str().unwrap();
        let code = sender.code("+447700900001");
        assert_eq!(world.submit(sid, "secret", &code).await.0, 200);
        let creds = json!({ "sid": sid, "client_secret": "secret" });
        let auth = json!({ "type": "m.login.msisdn", "threepid_creds": creds });
        let body = json!({ "new_password": "another good password", "auth": auth });
        assert_eq!(world.post("/account/password", body).await.0, 200);
        let (status, _) = ada.get("/account/whoami").await;
        assert_eq!(status.as_u16(), 401);
    })
    .await;
}

#[tokio::test]
async fn what_cant_be_sent_can_be_asked_for_again() {
    each_with(settings, async |world| {
        let sender = Sender::attach(world);
        *sender.says.lock().unwrap() = Some(503);
        let failed = ask(world, "/account/3pid", "GB", "07700900001").await;
        refused(failed, 503, "M_UNKNOWN");
        *sender.says.lock().unwrap() = Some(422);
        let wrong = ask(world, "/account/3pid", "GB", "07700900001").await;
        refused(wrong, 400, "M_INVALID_PARAM");
        assert_eq!(
            ask(world, "/account/3pid", "GB", "07700900001").await.0,
            200
        );
        refused(
            ask(world, "/account/3pid", "XX", "07700900001").await,
            400,
            "M_INVALID_PARAM",
        );
    })
    .await;
    each(async |world| {
        let ada = world.server.register("ada").await;
        for what in ["/account/3pid", "/register", "/account/password"] {
            let asked = ask(world, what, "GB", "07700900001").await;
            refused(asked, 400, "M_THREEPID_MEDIUM_NOT_SUPPORTED");
        }
        let gone = json!({ "medium": "msisdn", "address": "447700900001" });
        ada.ok(Method::POST, "/account/3pid/delete", gone).await;
    })
    .await;
}
