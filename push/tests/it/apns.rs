//! A push service like Apple's: HTTP/2, provider tokens, and payloads that it looks into.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Response, Version};
use rhizome_push::{Apns, ApnsConfig, Counts, Notification, Outcome, Prio};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::service::{Seen, Sender, Service, answer};
use crate::token::verified;
use crate::world::{Clock, again, device, hand_over, message};

const P8: &[u8] = include_bytes!("keys/p256.pem");
const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// The same, as iOS clients give it.
const PUSHKEY: &str = "ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=";
const GONE: &str = "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// What the service knows and thinks.
struct Apple {
    public: Vec<u8>,
    clock: Clock,
    /// Tokens from before this second are expired.
    valid_since: AtomicU64,
    /// The most bytes of a payload.
    most: AtomicUsize,
}

impl Apple {
    fn new() -> Arc<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(P8).unwrap();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair =
            EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der(), &SystemRandom::new());
        Arc::new(Self {
            public: pair.unwrap().public_key().as_ref().to_vec(),
            clock: Clock::new(),
            valid_since: AtomicU64::new(0),
            most: AtomicUsize::new(4096),
        })
    }

    fn answer(&self, seen: &Seen) -> Response<String> {
        match self.judge(seen) {
            Ok(()) => answer(200, ""),
            Err((status, reason)) => answer(status, json!({ "reason": reason }).to_string()),
        }
    }

    fn judge(&self, seen: &Seen) -> Result<(), (u16, &'static str)> {
        if seen.version != Version::HTTP_2 || seen.method != "POST" {
            return Err((405, "MethodNotAllowed"));
        }
        let token = seen
            .path
            .strip_prefix("/3/device/")
            .ok_or((404, "BadPath"))?;
        self.judge_provider(seen)?;
        if token == GONE {
            return Err((410, "Unregistered"));
        }
        if token != TOKEN {
            return Err((400, "BadDeviceToken"));
        }
        if seen.header("apns-topic") != "org.example" {
            return Err((400, "DeviceTokenNotForTopic"));
        }
        let expires: u64 = seen
            .header("apns-expiration")
            .parse()
            .map_err(|_| (400, "BadExpirationDate"))?;
        if expires <= self.clock.seconds() {
            return Err((400, "BadExpirationDate"));
        }
        if !["5", "10"].contains(&seen.header("apns-priority")) {
            return Err((400, "BadPriority"));
        }
        if seen.header("apns-push-type") != "alert" {
            return Err((400, "InvalidPushType"));
        }
        if seen.header("apns-collapse-id").len() > 64 {
            return Err((400, "BadCollapseId"));
        }
        if seen.body.len() > self.most.load(Ordering::SeqCst) {
            return Err((413, "PayloadTooLarge"));
        }
        let payload: Value =
            serde_json::from_slice(&seen.body).map_err(|_| (400, "PayloadEmpty"))?;
        payload["aps"]
            .is_object()
            .then_some(())
            .ok_or((400, "PayloadEmpty"))
    }

    fn judge_provider(&self, seen: &Seen) -> Result<(), (u16, &'static str)> {
        let token = seen.header("authorization").strip_prefix("bearer ");
        let token = token.ok_or((403, "MissingProviderToken"))?;
        let read = verified(token, &ECDSA_P256_SHA256_FIXED, &self.public);
        let (header, claims) = read.ok_or((403, "InvalidProviderToken"))?;
        if header != json!({ "alg": "ES256", "kid": "ABC123DEFG" }) || claims["iss"] != "DEF123GHIJ"
        {
            return Err((403, "InvalidProviderToken"));
        }
        let made = claims["iat"]
            .as_u64()
            .ok_or((403, "InvalidProviderToken"))?;
        let oldest = self
            .valid_since
            .load(Ordering::SeqCst)
            .max(self.clock.seconds() - 3600);
        if made < oldest {
            return Err((403, "ExpiredProviderToken"));
        }
        Ok(())
    }
}

struct World {
    apple: Arc<Apple>,
    service: Service,
    apns: Apns,
    sender: Sender,
}

impl World {
    async fn start() -> Self {
        let apple = Apple::new();
        let judge = apple.clone();
        let service = Service::start(move |seen| judge.answer(seen)).await;
        let apns = Apns::new(ApnsConfig {
            key: P8.to_vec(),
            key_id: "ABC123DEFG".to_owned(),
            team_id: "DEF123GHIJ".to_owned(),
            topics: BTreeMap::from([("org.example.app".to_owned(), "org.example".to_owned())]),
            endpoint: service.url.clone(),
            loc_key: "NEWS".to_owned(),
        });
        Self {
            apple,
            service,
            apns: apns.unwrap(),
            sender: Sender::new(true),
        }
    }

    async fn tell(&self, notification: &Notification, pushkey: &str, data: &Value) -> Outcome {
        let phone = device(pushkey, data);
        hand_over(
            &self.apns,
            notification,
            &phone,
            &self.apple.clock,
            &self.sender,
        )
        .await
    }
}

#[tokio::test]
async fn an_iphone_is_told_of_a_message() {
    let world = World::start().await;
    let told = world.tell(&message("hello"), PUSHKEY, &json!({})).await;
    assert_eq!(told, Outcome::Accepted);
    let payload = world.service.seen()[0].json();
    assert_eq!(
        payload,
        json!({
            "aps": {
                "alert": { "loc-key": "NEWS" }, "badge": 2, "mutable-content": 1,
                "thread-id": "!room:example.org",
            },
            "event_id": "$event", "room_id": "!room:example.org", "unread_count": 2,
        })
    );
    let badge = Notification::badge(Counts::default());
    assert_eq!(
        world.tell(&badge, TOKEN, &json!({})).await,
        Outcome::Accepted
    );
    assert_eq!(world.service.seen()[1].header("apns-priority"), "5");
}

#[tokio::test]
async fn what_is_sent_again_collapses_into_one() {
    let world = World::start().await;
    let mut other = message("hello");
    other.event.as_mut().unwrap().event_id = "$other".to_owned();
    other.prio = Prio::Low;
    for notification in [&message("hello"), &message("hello"), &other] {
        let told = world.tell(notification, TOKEN, &json!({})).await;
        assert_eq!(told, Outcome::Accepted);
    }
    let seen = world.service.seen();
    let id = |at: usize| seen[at].header("apns-collapse-id");
    assert_eq!(id(0), id(1));
    assert_ne!(id(0), id(2));
}

#[tokio::test]
async fn one_provider_token_serves_until_it_is_old_or_refused() {
    let world = World::start().await;
    let tell = async || {
        let told = world.tell(&message("hello"), TOKEN, &json!({})).await;
        assert_eq!(told, Outcome::Accepted);
        world
            .service
            .seen()
            .last()
            .unwrap()
            .header("authorization")
            .to_owned()
    };
    let first = tell().await;
    world.apple.clock.advance(Duration::from_mins(30));
    assert_eq!(tell().await, first);
    // Apple expires it early: the notification goes out with another one at once.
    world
        .apple
        .valid_since
        .store(world.apple.clock.seconds(), Ordering::SeqCst);
    let second = tell().await;
    assert_ne!(second, first);
    assert_eq!(world.service.seen().len(), 4);
    world.apple.clock.advance(Duration::from_mins(50));
    assert_ne!(tell().await, second);
    assert_eq!(world.service.seen().len(), 5);
}

#[tokio::test]
async fn a_token_is_not_renewed_every_other_minute() {
    let world = World::start().await;
    world.apple.valid_since.store(u64::MAX, Ordering::SeqCst);
    for _ in 0..3 {
        let told = world.tell(&message("hello"), TOKEN, &json!({})).await;
        assert_eq!(again(&told), None);
    }
    let seen = world.service.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(
        seen[0].header("authorization"),
        seen[2].header("authorization")
    );
}

#[tokio::test]
async fn devices_that_are_gone_are_rejected() {
    let world = World::start().await;
    let unknown = TOKEN.replace("00", "01");
    for pushkey in [GONE, &unknown] {
        let told = world.tell(&message("hello"), pushkey, &json!({})).await;
        assert_eq!(told, Outcome::Rejected(vec![pushkey.to_owned()]));
    }
}

#[tokio::test]
async fn what_is_too_large_for_the_service_becomes_less() {
    let world = World::start().await;
    world.apple.most.store(300, Ordering::SeqCst);
    let data = json!({
        "org.rhizome.show": "text",
        "default_payload": { "x": "y".repeat(200) },
    });
    let told = world
        .tell(&message(&"hello".repeat(50)), TOKEN, &data)
        .await;
    assert_eq!(told, Outcome::Accepted);
    let sizes: Vec<_> = world
        .service
        .seen()
        .iter()
        .map(|seen| seen.body.len())
        .collect();
    assert_eq!(sizes.len(), 4);
    assert!(sizes.is_sorted_by(|one, next| one > next), "{sizes:?}");
    world.apple.most.store(10, Ordering::SeqCst);
    let told = world.tell(&message("hello"), TOKEN, &json!({})).await;
    assert!(matches!(told, Outcome::Dropped { .. }));
}
