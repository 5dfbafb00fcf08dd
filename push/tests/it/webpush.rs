//! A push service of a browser's, and the browser, which decrypts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Response;
use rhizome_push::{
    Channel as _, Counts, Device, Notification, Outcome, Reading, Schemes, WebPush,
};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
#[allow(deprecated)] // Nothing else makes ring use a private key more than once.
use ring::deprecated_test::rand::FixedSliceRandom;
use ring::hmac::{HMAC_SHA256, Key, sign};
use ring::signature::ECDSA_P256_SHA256_FIXED;
use serde_json::{Value, json};

use crate::service::{Seen, Sender, Service, answer};
use crate::token::{decoded, verified};
use crate::world::{Clock, again, device, hand_over, message};

const CONTACT: &str = "mailto:admin@example.org";

/// A browser with a subscription.
struct Browser {
    secret: [u8; 32],
    auth: [u8; 16],
}

impl Browser {
    fn new() -> Self {
        Self {
            secret: [0x42; 32],
            auth: *b"sixteen of bytes",
        }
    }

    #[allow(deprecated)]
    fn private(&self) -> EphemeralPrivateKey {
        let random = FixedSliceRandom {
            bytes: &self.secret,
        };
        EphemeralPrivateKey::generate(&ECDH_P256, &random).unwrap()
    }

    fn public(&self) -> Vec<u8> {
        let public = self.private().compute_public_key().unwrap();
        public.as_ref().to_vec()
    }

    fn pusher(&self, url: &str) -> Device {
        let auth = URL_SAFE_NO_PAD.encode(self.auth);
        device(
            &URL_SAFE_NO_PAD.encode(self.public()),
            &json!({ "url": url, "auth": auth }),
        )
    }

    /// Decrypts a message of one record, step by step as RFC 8291 and RFC 8188 write it.
    fn decrypt(&self, body: &[u8]) -> Vec<u8> {
        let (salt, rest) = body.split_at(16);
        assert_eq!(rest[..4], 4096_u32.to_be_bytes());
        assert_eq!(rest[4], 65);
        let (server, sealed) = rest[5..].split_at(65);
        assert!(sealed.len() <= 4096);
        let peer = UnparsedPublicKey::new(&ECDH_P256, server);
        let shared = agree_ephemeral(self.private(), &peer, <[u8]>::to_vec).unwrap();

        let prk_key = hmac(&self.auth, &[&shared]);
        let ikm = hmac(
            &prk_key,
            &[b"WebPush: info\0", &self.public(), server, &[1]],
        );
        let prk = hmac(salt, &[&ikm]);
        let key = hmac(&prk, &[b"Content-Encoding: aes128gcm\0", &[1]]);
        let nonce = hmac(&prk, &[b"Content-Encoding: nonce\0", &[1]]);

        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key[..16]).unwrap());
        let nonce = Nonce::try_assume_unique_for_key(&nonce[..12]).unwrap();
        let mut text = sealed.to_vec();
        let text = key.open_in_place(nonce, Aad::empty(), &mut text).unwrap();
        let end = text.iter().rposition(|&byte| byte != 0).unwrap();
        assert_eq!(text[end], 2, "it's the last record");
        text[..end].to_vec()
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    sign(&Key::new(HMAC_SHA256, key), &parts.concat())
        .as_ref()
        .to_vec()
}

struct World {
    service: Service,
    channel: WebPush,
    browser: Browser,
    sender: Sender,
    clock: Clock,
    /// The most bytes that the service takes.
    most: Arc<AtomicUsize>,
}

impl World {
    async fn start() -> Self {
        let most = Arc::new(AtomicUsize::new(4096));
        let bound = most.clone();
        let service = Service::start(move |seen| judge(seen, bound.load(Ordering::SeqCst))).await;
        let key = WebPush::generate_key().unwrap();
        Self {
            service,
            channel: WebPush::new(&key, CONTACT, Schemes::Any).unwrap(),
            browser: Browser::new(),
            sender: Sender::new(false),
            clock: Clock::new(),
            most,
        }
    }

    fn pusher(&self, path: &str) -> Device {
        self.browser.pusher(&format!("{}{path}", self.service.url))
    }

    async fn tell(&self, notification: &Notification, path: &str) -> Outcome {
        let pusher = self.pusher(path);
        hand_over(
            &self.channel,
            notification,
            &pusher,
            &self.clock,
            &self.sender,
        )
        .await
    }

    /// What the browser reads of the last message.
    fn read(&self) -> Value {
        let seen = self.service.seen();
        serde_json::from_slice(&self.browser.decrypt(&seen.last().unwrap().body)).unwrap()
    }
}

fn judge(seen: &Seen, most: usize) -> Response<String> {
    assert_eq!(seen.method, "POST");
    assert_eq!(seen.header("content-encoding"), "aes128gcm");
    assert_eq!(seen.header("ttl"), "172800");
    assert!(["high", "normal"].contains(&seen.header("urgency")));
    assert!(seen.header("topic").len() <= 32);
    if seen.body.len() > most {
        return answer(413, "");
    }
    match seen.path.as_str() {
        "/gone" => answer(410, ""),
        "/busy" => {
            let mut busy = answer(429, "");
            busy.headers_mut().insert("retry-after", 12.into());
            busy
        }
        _ => answer(201, ""),
    }
}

#[tokio::test]
async fn a_browser_decrypts_what_a_gateway_would_be_told() {
    let world = World::start().await;
    let pusher = world.pusher("/sub");
    assert_eq!(world.channel.check(&pusher), Ok(()));
    assert_eq!(
        world.tell(&message("hello"), "/sub").await,
        Outcome::Accepted
    );
    let expected = json!({ "notification": {
        "event_id": "$event",
        "room_id": "!room:example.org",
        "type": "m.room.message",
        "sender": "@major:example.org",
        "sender_display_name": "Major Tom",
        "room_name": "Mission Control",
        "content": { "msgtype": "m.text", "body": "hello" },
        "prio": "high",
        "counts": { "unread": 2 },
        "devices": [{
            "app_id": "org.example.app",
            "pushkey": pusher.pushkey,
            "pushkey_ts": 1_600_000_000,
            "data": {},
        }],
    }});
    assert_eq!(world.read(), expected);
}

#[tokio::test]
async fn of_an_encrypted_event_nothing_but_ids_goes_out() {
    let world = World::start().await;
    let mut notification = message("hello");
    notification.event.as_mut().unwrap().kind = "m.room.encrypted".to_owned();
    assert_eq!(world.tell(&notification, "/sub").await, Outcome::Accepted);
    let told = world.read();
    let keys: Vec<_> = told["notification"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(keys.join(" "), "counts devices event_id prio room_id");
}

#[tokio::test]
async fn the_server_says_who_it_is_by_one_token_for_a_service() {
    let world = World::start().await;
    for path in ["/one", "/two"] {
        assert_eq!(world.tell(&message("hello"), path).await, Outcome::Accepted);
    }
    let seen = world.service.seen();
    let said = seen[0].header("authorization");
    assert_eq!(seen[1].header("authorization"), said);
    let (token, key) = said
        .strip_prefix("vapid t=")
        .unwrap()
        .split_once(", k=")
        .unwrap();
    assert_eq!(key, world.channel.public_key());
    let (header, claims) = verified(token, &ECDSA_P256_SHA256_FIXED, &decoded(key)).unwrap();
    assert_eq!(header, json!({ "typ": "JWT", "alg": "ES256" }));
    assert_eq!(claims["aud"], world.service.url.as_str());
    assert_eq!(claims["sub"], CONTACT);
    let expires = claims["exp"].as_u64().unwrap();
    assert!((world.clock.seconds()..=world.clock.seconds() + 24 * 3600).contains(&expires));
    world.clock.advance(Duration::from_hours(12));
    assert_eq!(
        world.tell(&message("hello"), "/one").await,
        Outcome::Accepted
    );
    assert_ne!(world.service.seen()[2].header("authorization"), said);
}

#[tokio::test]
async fn counts_replace_each_other_and_messages_dont() {
    let world = World::start().await;
    let badge = |unread| {
        Notification::badge(Counts {
            unread,
            missed_calls: 0,
        })
    };
    for notification in [&badge(1), &badge(0), &message("hello")] {
        assert_eq!(world.tell(notification, "/sub").await, Outcome::Accepted);
    }
    let seen = world.service.seen();
    assert_eq!(seen[0].header("topic").len(), 32);
    assert_eq!(seen[0].header("topic"), seen[1].header("topic"));
    assert_eq!(seen[2].header("topic"), "");
    assert_eq!(
        (seen[1].header("urgency"), seen[2].header("urgency")),
        ("normal", "high")
    );
}

#[tokio::test]
async fn a_service_that_takes_less_gets_less() {
    let world = World::start().await;
    world.most.store(700, Ordering::SeqCst);
    assert_eq!(
        world.tell(&message(&"x".repeat(3000)), "/sub").await,
        Outcome::Accepted
    );
    assert_eq!(world.service.seen().len(), 2);
    assert_eq!(world.read()["notification"].get("content"), None);
}

#[tokio::test]
async fn subscriptions_that_are_gone_are_rejected_and_busy_services_tried_again() {
    let world = World::start().await;
    let gone = world.tell(&message("hello"), "/gone").await;
    assert_eq!(gone, Outcome::Rejected(vec![world.pusher("/gone").pushkey]));
    let busy = world.tell(&message("hello"), "/busy").await;
    assert_eq!(again(&busy), Some(Duration::from_secs(12)));
}

#[tokio::test]
async fn a_new_pusher_is_asked_to_say_that_it_is_there() {
    let world = World::start().await;
    let pusher = world.pusher("/sub");
    let token = "6fc76b70-5fad-4eb7-93ea-a1af7a03258b";
    let request = world
        .channel
        .activation(&pusher, token, world.clock.now())
        .unwrap();
    let answer = world.sender.send(request).await.unwrap();
    let read = world.channel.read(&answer, &pusher, world.clock.now());
    assert_eq!(read, Reading::Done(Outcome::Accepted));
    assert_eq!(
        world.read(),
        json!({ "app_id": "org.example.app", "ack_token": token })
    );
}
