//! A push service like Google's: an OAuth server that wants a signed assertion, and messages that it looks into.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::{Response, Version};
use rhizome_push::{Fcm, Notification, Outcome};
use ring::rsa;
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::service::{Seen, Sender, Service, answer};
use crate::token::verified;
use crate::world::{Clock, again, device, hand_over, message};

const KEY: &str = include_str!("keys/rsa.pem");
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// What the service knows and thinks.
struct Google {
    public: Vec<u8>,
    clock: Clock,
    /// How many tokens were given; the last one is good.
    tokens: AtomicU64,
    down: AtomicBool,
}

impl Google {
    fn new() -> Arc<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let pair = rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
        Arc::new(Self {
            public: pair.public_key().as_ref().to_vec(),
            clock: Clock::new(),
            tokens: AtomicU64::new(0),
            down: AtomicBool::new(false),
        })
    }

    fn answer(&self, seen: &Seen) -> Response<String> {
        assert_eq!(
            (seen.method.as_str(), seen.version),
            ("POST", Version::HTTP_2)
        );
        if self.down.load(Ordering::SeqCst) {
            let mut down = answer(503, "<html>");
            down.headers_mut().insert("retry-after", 90.into());
            return down;
        }
        if seen.path == "/token" {
            return self.give_token(seen);
        }
        match self.judge(seen) {
            Ok(()) => answer(200, r#"{"name":"projects/an-app/messages/0:1"}"#),
            Err((status, code)) => {
                let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
                let details = json!([{ "@type": kind, "errorCode": code }]);
                let error =
                    json!({ "code": status, "status": "X", "message": "No.", "details": details });
                answer(status, json!({ "error": error }).to_string())
            }
        }
    }

    fn give_token(&self, seen: &Seen) -> Response<String> {
        assert_eq!(
            seen.header("content-type"),
            "application/x-www-form-urlencoded"
        );
        let form: HashMap<String, String> = url::form_urlencoded::parse(&seen.body)
            .into_owned()
            .collect();
        assert_eq!(
            form["grant_type"],
            "urn:ietf:params:oauth:grant-type:jwt-bearer"
        );
        let read = verified(
            &form["assertion"],
            &RSA_PKCS1_2048_8192_SHA256,
            &self.public,
        );
        let Some((header, claims)) = read else {
            return answer(400, r#"{"error":"invalid_grant"}"#);
        };
        let now = self.clock.seconds();
        assert_eq!(
            header,
            json!({ "alg": "RS256", "typ": "JWT", "kid": "key-1" })
        );
        assert_eq!(claims["iss"], "push@an-app.iam.example");
        assert_eq!(claims["scope"], SCOPE);
        assert_eq!(
            claims["aud"].as_str().unwrap(),
            format!("http://{}/token", seen.authority)
        );
        assert_eq!(claims["iat"], now);
        assert_eq!(claims["exp"], now + 3600);
        let number = self.tokens.fetch_add(1, Ordering::SeqCst) + 1;
        let token = format!("token-{number}");
        let body = json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" });
        answer(200, body.to_string())
    }

    fn judge(&self, seen: &Seen) -> Result<(), (u16, &'static str)> {
        let good = format!("Bearer token-{}", self.tokens.load(Ordering::SeqCst));
        if seen.header("authorization") != good {
            return Err((401, "UNAUTHENTICATED"));
        }
        if seen.path != "/v1/projects/an-app/messages:send" {
            return Err((404, "UNSPECIFIED_ERROR"));
        }
        let message = &seen.json()["message"];
        let strings = |value: &Value| {
            let fields = value.as_object().unwrap();
            fields.values().all(Value::is_string)
        };
        if !strings(&message["data"]) || !strings(&message["android"]) {
            return Err((400, "INVALID_ARGUMENT"));
        }
        match message["token"].as_str() {
            Some("phone") => Ok(()),
            Some("gone") => Err((404, "UNREGISTERED")),
            _ => Err((403, "SENDER_ID_MISMATCH")),
        }
    }
}

struct World {
    google: Arc<Google>,
    service: Service,
    fcm: Fcm,
    sender: Sender,
}

impl World {
    async fn start() -> Self {
        let google = Google::new();
        let judge = google.clone();
        let service = Service::start(move |seen| judge.answer(seen)).await;
        let account = json!({
            "type": "service_account",
            "project_id": "an-app",
            "private_key_id": "key-1",
            "private_key": KEY,
            "client_email": "push@an-app.iam.example",
            "token_uri": format!("{}/token", service.url),
        });
        let fcm = Fcm::new(account.to_string().as_bytes(), &service.url).unwrap();
        Self {
            google,
            service,
            fcm,
            sender: Sender::new(true),
        }
    }

    async fn tell(&self, notification: &Notification, pushkey: &str) -> Outcome {
        let phone = device(pushkey, &json!({ "default_payload": { "cs": "client" } }));
        hand_over(
            &self.fcm,
            notification,
            &phone,
            &self.google.clock,
            &self.sender,
        )
        .await
    }

    fn paths(&self) -> String {
        let last = |path: &str| path.rsplit('/').next().unwrap().to_owned();
        let paths: Vec<_> = self
            .service
            .seen()
            .iter()
            .map(|seen| last(&seen.path))
            .collect();
        paths.join(" ")
    }
}

#[tokio::test]
async fn an_android_phone_is_told_of_a_message() {
    let world = World::start().await;
    assert_eq!(
        world.tell(&message("hello"), "phone").await,
        Outcome::Accepted
    );
    let expected = json!({ "message": {
        "token": "phone",
        "data": {
            "cs": "client", "event_id": "$event", "room_id": "!room:example.org",
            "unread": "2", "missed_calls": "0", "prio": "high",
        },
        "android": { "priority": "HIGH", "ttl": "172800s" },
    }});
    assert_eq!(world.service.seen()[1].json(), expected);
}

#[tokio::test]
async fn one_token_serves_for_an_hour_or_until_it_is_refused() {
    let world = World::start().await;
    for _ in 0..2 {
        assert_eq!(
            world.tell(&message("hello"), "phone").await,
            Outcome::Accepted
        );
    }
    assert_eq!(world.paths(), "token messages:send messages:send");
    world.google.clock.advance(Duration::from_mins(56));
    assert_eq!(
        world.tell(&message("hello"), "phone").await,
        Outcome::Accepted
    );
    assert_eq!(
        world.paths(),
        "token messages:send messages:send token messages:send"
    );
    // Somebody has taken it back: the notification goes out with another one at once.
    world.google.tokens.fetch_add(1, Ordering::SeqCst);
    world.google.clock.advance(Duration::from_mins(2));
    assert_eq!(
        world.tell(&message("hello"), "phone").await,
        Outcome::Accepted
    );
    assert!(
        world
            .paths()
            .ends_with("token messages:send messages:send token messages:send")
    );
}

#[tokio::test]
async fn registrations_that_are_gone_are_rejected() {
    let world = World::start().await;
    for pushkey in ["gone", "another project's"] {
        let pushkey = pushkey.replace(' ', "_");
        let told = world.tell(&message("hello"), &pushkey).await;
        assert_eq!(told, Outcome::Rejected(vec![pushkey]));
    }
}

#[tokio::test]
async fn a_service_that_is_down_is_tried_again_when_it_says() {
    let world = World::start().await;
    let after = Some(Duration::from_secs(90));
    world.google.down.store(true, Ordering::SeqCst);
    let told = world.tell(&message("hello"), "phone").await;
    assert_eq!((again(&told), world.paths().as_str()), (after, "token"));
    world.google.down.store(false, Ordering::SeqCst);
    assert_eq!(
        world.tell(&message("hello"), "phone").await,
        Outcome::Accepted
    );
    world.google.down.store(true, Ordering::SeqCst);
    assert_eq!(again(&world.tell(&message("hello"), "phone").await), after);
}
