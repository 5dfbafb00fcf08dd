//! Web Push by this server itself (MSC4174). What is in the messages is seen in the tests of `push`.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use http::{HeaderMap, Method, StatusCode};
use rhizome_push::{Schemes, UnifiedPush, WebPush};
use rhizome_storage::testing::eventually;
use ruma::server_name;
use serde_json::{Value, json};

use super::{World, each_with, pusher, set};
use crate::harness::User;

/// A subscriber's public key, and what it authenticates by (RFC 8291, appendix A).
const KEY: &str =
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

/// A push service: what came, and what it answers.
#[derive(Clone)]
struct Service {
    got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    answer: Arc<Mutex<StatusCode>>,
}

impl Service {
    fn attach(world: &World) -> Self {
        let service = Self {
            got: Arc::default(),
            answer: Arc::new(Mutex::new(StatusCode::CREATED)),
        };
        let take = async |State(service): State<Service>, headers: HeaderMap, body: Bytes| {
            service.got.lock().unwrap().push((headers, body));
            *service.answer.lock().unwrap()
        };
        let router = Router::new().route("/to/{device}", post(take));
        let router = router.with_state(service.clone());
        world.network.attach(server_name!("service"), router);
        service
    }

    async fn got(&self, many: usize) -> Vec<(HeaderMap, Bytes)> {
        eventually("it comes", async || self.got.lock().unwrap().len() >= many).await;
        let got = self.got.lock().unwrap().clone();
        assert_eq!(got.len(), many);
        got
    }
}

async fn each(test: impl AsyncFn(&mut World)) {
    let key = WebPush::generate_key().unwrap();
    let settings = |config: &mut rhizome_client_api::ClientConfig| {
        let web = WebPush::new(&key, "mailto:admin@here", Schemes::Https).unwrap();
        config.channels = config.channels.clone().with_web_push(web);
    };
    each_with(settings, test).await;
}

fn browser() -> Value {
    let data = json!({ "url": "https://service/to/browser", "auth": AUTH });
    pusher(KEY, json!({ "kind": "webpush", "data": data }))
}

async fn ack(user: &User, app_id: &str, token: &str) -> (u16, Value) {
    let body = json!({ "app_id": app_id, "ack_token": token });
    let (status, answer) = user.call(Method::POST, "/pushers/ack", Some(body)).await;
    (status.as_u16(), answer["errcode"].clone())
}

async fn token(world: &World, user: &User) -> String {
    let user = world
        .server
        .store
        .user_no(user.id.as_str().try_into().unwrap());
    let pushers = world
        .server
        .store
        .pushers(user.await.unwrap())
        .await
        .unwrap();
    pushers[0].ack.clone().unwrap()
}

#[tokio::test]
async fn a_browser_says_that_it_is_there_before_it_is_told_anything() {
    each(async |world| {
        let service = Service::attach(world);
        let (ada, bob) = (
            world.server.register("ada").await,
            world.server.register("bob").await,
        );
        let room = bob.create_public().await;
        ada.join(&room).await;
        let (status, _) = ada
            .call(Method::POST, "/pushers/set", Some(browser()))
            .await;
        assert_eq!(status, StatusCode::CREATED);
        let (headers, body) = service.got(1).await.remove(0);
        assert_eq!(headers["content-encoding"], "aes128gcm");
        assert!(
            headers["authorization"]
                .to_str()
                .unwrap()
                .starts_with("vapid t=")
        );
        let first = token(world, &ada).await;
        assert!(
            !body
                .windows(first.len())
                .any(|part| part == first.as_bytes())
        );
        let activated = async || ada.read("/pushers").await["pushers"][0]["activated"].clone();
        assert_eq!(activated().await, false);
        bob.say(&room, "too early").await;
        // Neither a wrong token nor an old one does.
        assert_eq!(
            ack(&ada, "org.example.app", "wrong").await,
            (400, json!("M_UNKNOWN_ACTIVATION_TOKEN"))
        );
        assert_eq!(
            ack(&ada, "org.example.other", &first).await,
            (404, json!("M_NOT_FOUND"))
        );
        assert_eq!(
            ack(&bob, "org.example.app", &first).await,
            (404, json!("M_NOT_FOUND"))
        );
        world.clock.advance(Duration::from_mins(5));
        assert_eq!(
            ack(&ada, "org.example.app", &first).await,
            (400, json!("M_EXPIRED_ACTIVATION_TOKEN"))
        );
        ada.call(Method::POST, "/pushers/set", Some(browser()))
            .await;
        service.got(2).await;
        assert_eq!(
            ack(&ada, "org.example.app", &first).await,
            (400, json!("M_UNKNOWN_ACTIVATION_TOKEN"))
        );
        assert_eq!(
            ack(&ada, "org.example.app", &token(world, &ada).await)
                .await
                .0,
            200
        );
        assert_eq!(activated().await, true);
        bob.say(&room, "now").await;
        let (headers, _) = service.got(3).await.remove(2);
        assert_eq!(headers["ttl"], "172800");
        // The same again needs no word from it.
        set(&ada, browser()).await;
        assert_eq!(activated().await, true);
        // Gone is gone.
        *service.answer.lock().unwrap() = StatusCode::GONE;
        bob.say(&room, "anybody?").await;
        eventually("it is forgotten", async || {
            ada.read("/pushers").await["pushers"]
                .as_array()
                .unwrap()
                .is_empty()
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn who_asks_is_told_that_there_is_web_push() {
    each(async |world| {
        let ada = world.server.register("ada").await;
        let known = ada.read("/capabilities").await;
        assert_eq!(known["capabilities"]["m.webpush"]["enabled"], true);
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_of_unifiedpush_is_reached_without_another_gateway() {
    let own = "https://here/_matrix/push/v1/notify";
    let settings = |config: &mut rhizome_client_api::ClientConfig| {
        let unified = UnifiedPush::new(own.parse().unwrap(), Schemes::Https);
        config.channels = config.channels.clone().with_unified_push(unified);
    };
    each_with(settings, async |world| {
        let service = Service::attach(world);
        let ada = world.server.register("ada").await;
        let bob = world.server.register("bob").await;
        let room = bob.create_public().await;
        ada.join(&room).await;
        let path = "/_matrix/push/v1/notify";
        let (status, found) = world.server.request(Method::GET, path, None, None).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(found["unifiedpush"]["gateway"], "matrix");
        let phone = "https://service/to/phone";
        set(&ada, pusher(phone, json!({ "data": { "url": own } }))).await;
        // Others have a gateway as before.
        set(&ada, pusher("other", json!({}))).await;
        bob.say(&room, "hello").await;
        let (_, body) = service.got(1).await.remove(0);
        let told: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(told["notification"]["content"]["body"], "hello");
        assert_eq!(told["notification"]["devices"][0]["pushkey"], phone);
        assert_eq!(
            world.gateway.told(1).await[0]["devices"][0]["pushkey"],
            "other"
        );
        // The endpoint is gone, and its pusher with it.
        *service.answer.lock().unwrap() = StatusCode::GONE;
        bob.say(&room, "still there?").await;
        eventually("it goes", async || super::keys(&ada).await == ["other"]).await;
    })
    .await;
}

#[tokio::test]
async fn who_is_no_gateway_doesnt_say_so() {
    super::each(async |world| {
        let path = "/_matrix/push/v1/notify";
        let (status, found) = world.server.request(Method::GET, path, None, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(found["errcode"], "M_UNRECOGNIZED");
    })
    .await;
}
