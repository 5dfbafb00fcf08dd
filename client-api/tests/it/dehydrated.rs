//! Dehydrated devices (MSC3814): left behind, written to, rehydrated, replaced and gone.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::{Method, StatusCode};
use rhizome_protocol::{canonical::to_canonical, sign::KeyPair};
use rhizome_storage::{Fact, Sending, ToDevice, WriteSet};
use ruma::UserId;
use serde_json::{Value, json};

use crate::harness::{User, esc, story};

const PATH: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";
/// As clients name them: 32 bytes in base64.
const DRY: &str = "dry/6rkS+wYqbVpCjPnLhXh0WdV0rkjzNQHjGbOOSAs";

/// `object` with a signature of the device.
fn signed(user: &User, device: &str, key: &KeyPair, mut object: Value) -> Value {
    let text = to_canonical(object.as_object().unwrap()).unwrap();
    let signature = STANDARD_NO_PAD.encode(key.sign(text.as_bytes()));
    object["signatures"] = json!({ &user.id: { format!("ed25519:{device}"): signature } });
    object
}

/// What stores a dehydrated device with one one-time key and a fallback key.
fn dehydrated(user: &User, device: &str, seed: u8) -> Value {
    let key = KeyPair::from_seed("a", &[seed; 32]).unwrap();
    let keys = json!({
        "user_id": user.id, "device_id": device, "dehydrated": true,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": {
            format!("ed25519:{device}"): key.public_base64(),
            format!("curve25519:{device}"): device,
        },
    });
    let one_time = signed(user, device, &key, json!({ "key": format!("one {seed}") }));
    let fallback = json!({ "key": format!("last {seed}"), "fallback": true });
    json!({
        "device_id": device,
        "device_data": { "algorithm": "org.matrix.msc3814.v2", "device_pickle": "p", "nonce": "n" },
        "initial_device_display_name": "Dehydrated",
        "device_keys": signed(user, device, &key, keys),
        "one_time_keys": { "signed_curve25519:A": one_time },
        "fallback_keys": { "signed_curve25519:B": signed(user, device, &key, fallback) },
    })
}

async fn ask(user: &User, method: Method, more: &str, body: Option<Value>) -> (StatusCode, Value) {
    let path = format!("{PATH}{more}");
    let token = Some(user.token.as_str());
    user.server.request(method, &path, token, body).await
}

async fn ok(user: &User, method: Method, more: &str, body: Option<Value>) -> Value {
    let (status, answer) = ask(user, method, more, body).await;
    assert_eq!(status, StatusCode::OK, "{more}: {answer}");
    answer
}

async fn refused(user: &User, method: Method, more: &str, body: Option<Value>) -> String {
    let (status, answer) = ask(user, method, more, body).await;
    assert!(!status.is_success(), "{answer}");
    let errcode = answer["errcode"].as_str().unwrap();
    format!("{} {errcode}", status.as_u16())
}

/// The ids of a user's devices that nobody is logged in with.
async fn dry_devices(user: &User) -> Vec<String> {
    let devices = user.read("/devices").await;
    let devices = devices["devices"].as_array().unwrap().iter();
    let dry = devices.filter(|device| device["display_name"] == "Dehydrated");
    dry.map(|device| device["device_id"].as_str().unwrap().to_owned())
        .collect()
}

/// Messages come for a device.
async fn send(user: &User, device: &str, texts: impl IntoIterator<Item = String>) {
    let store = &user.server.store;
    let id = UserId::parse(&*user.id).unwrap();
    let no = store.user_no(&id).await.unwrap();
    let sending = Arc::new(Sending {
        sender: id,
        kind: "m.room.encrypted".into(),
        received_ms: store.clock().now_ms(),
        once: None,
    });
    let facts = texts.into_iter().map(|text| {
        Fact::from(ToDevice {
            user: no,
            device: device.into(),
            sending: sending.clone(),
            content: json!({ "n": text }).to_string().into(),
        })
    });
    let set = WriteSet::from(facts.collect::<Vec<_>>());
    store.commit(set).await.unwrap();
}

#[tokio::test]
async fn a_dehydrated_device_is_one_of_its_user_until_it_is_replaced() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let absent = || "404 M_NOT_FOUND".to_owned();
        assert_eq!(refused(&alice, Method::GET, "", None).await, absent());
        assert_eq!(refused(&alice, Method::DELETE, "", None).await, absent());
        let dry = dehydrated(&alice, DRY, 1);
        let told = ok(&alice, Method::PUT, "", Some(dry.clone())).await;
        assert_eq!(told, json!({ "device_id": DRY }));
        let told = ok(&alice, Method::GET, "", None).await;
        assert_eq!(
            told,
            json!({ "device_id": DRY, "device_data": dry["device_data"] })
        );
        assert_eq!(refused(&bob, Method::GET, "", None).await, absent());
        assert_eq!(dry_devices(&alice).await, [DRY]);
        let device = alice.read(&format!("/devices/{}", esc(DRY))).await;
        assert_eq!(device["display_name"], "Dehydrated");

        let query = json!({ "device_keys": { &alice.id: [] } });
        let keys = bob.ok(Method::POST, "/keys/query", query.clone()).await;
        let keys = &keys["device_keys"][&alice.id][DRY];
        assert_eq!(keys["dehydrated"], true);
        assert_eq!(keys["signatures"], dry["device_keys"]["signatures"]);
        for key in ["one 1", "last 1", "last 1"] {
            let claim = json!({ "one_time_keys": { &alice.id: { DRY: "signed_curve25519" } } });
            let claimed = bob.ok(Method::POST, "/keys/claim", claim).await;
            let claimed = claimed["one_time_keys"][&alice.id][DRY]
                .as_object()
                .unwrap();
            assert_eq!(claimed.values().next().unwrap()["key"], key);
        }

        ok(&alice, Method::PUT, "", Some(dehydrated(&alice, "next", 2))).await;
        assert_eq!(dry_devices(&alice).await, ["next"]);
        let keys = bob.ok(Method::POST, "/keys/query", query).await;
        let keys = keys["device_keys"][&alice.id].as_object().unwrap();
        assert_eq!(keys.keys().collect::<Vec<_>>(), ["next"]);
        let told = ok(&alice, Method::DELETE, "", None).await;
        assert_eq!(told, json!({ "device_id": "next" }));
        assert_eq!(refused(&alice, Method::DELETE, "", None).await, absent());
        assert!(dry_devices(&alice).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn messages_for_a_dehydrated_device_stay_until_it_is_replaced() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        ok(&alice, Method::PUT, "", Some(dehydrated(&alice, DRY, 1))).await;
        send(&alice, DRY, (0..150).map(|n| n.to_string())).await;
        let events = format!("/{}/events", esc(DRY));
        for _ in 0..2 {
            let mut from = json!({});
            for wanted in [0..100, 100..150, 0..0] {
                let told = ok(&alice, Method::POST, &events, Some(from)).await;
                let got = told["events"].as_array().unwrap().iter();
                let wanted = wanted.map(|n| {
                    json!({ "type": "m.room.encrypted", "sender": alice.id,
                        "content": { "n": n.to_string() } })
                });
                assert!(got.cloned().eq(wanted), "{told}");
                from = json!({ "next_batch": told["next_batch"] });
            }
        }
        let told = ok(&alice, Method::POST, &format!("{events}?limit=2"), None).await;
        assert_eq!(told["events"].as_array().unwrap().len(), 2);
        let next = esc(told["next_batch"].as_str().unwrap());
        let further = format!("{events}?limit=1&next_batch={next}");
        let told = ok(&alice, Method::GET, &further, None).await;
        assert_eq!(told["events"][0]["content"]["n"], "2");
        // Who asks so asks on as long as there is a token.
        let (mut from, mut got) = (String::new(), Vec::new());
        loop {
            let told = ok(
                &alice,
                Method::GET,
                &format!("{events}?limit=60{from}"),
                None,
            )
            .await;
            let read = told["events"].as_array().unwrap().iter();
            got.extend(read.map(|event| event["content"]["n"].clone()));
            match told["next_batch"].as_str() {
                Some(next) => from = format!("&from={}", esc(next)),
                None => break,
            }
        }
        assert!(got.into_iter().eq((0..150).map(|n| json!(n.to_string()))));
        for (by, at, from, wanted) in [
            (&bob, &*events, "d0", "403 M_FORBIDDEN"),
            (&alice, "/OTHER/events", "d0", "403 M_FORBIDDEN"),
            (&alice, &events, "0", "400 M_INVALID_PARAM"),
            (&alice, &events, "d-1", "400 M_INVALID_PARAM"),
            (
                &alice,
                &events,
                "d99999999999999999999",
                "400 M_INVALID_PARAM",
            ),
        ] {
            let from = Some(json!({ "next_batch": from }));
            assert_eq!(refused(by, Method::POST, at, from).await, wanted);
        }

        ok(&alice, Method::PUT, "", Some(dehydrated(&alice, "next", 2))).await;
        let gone = refused(&alice, Method::POST, &events, Some(json!({}))).await;
        assert_eq!(gone, "403 M_FORBIDDEN");
        let told = ok(&alice, Method::POST, "/next/events", None).await;
        assert_eq!(told["events"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn a_dehydrated_device_goes_as_others_do() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let dry = dehydrated(&alice, DRY, 1);
        ok(&alice, Method::PUT, "", Some(dry.clone())).await;
        // Once more, with another identity under the same name.
        ok(&alice, Method::PUT, "", Some(dehydrated(&alice, DRY, 2))).await;
        assert_eq!(dry_devices(&alice).await, [DRY]);
        let claim = json!({ "one_time_keys": { &alice.id: { DRY: "signed_curve25519" } } });
        let claimed = alice.ok(Method::POST, "/keys/claim", claim).await;
        let claimed = &claimed["one_time_keys"][&alice.id][DRY]["signed_curve25519:A"];
        assert_eq!(claimed["key"], "one 2");

        let login = json!({ "type": "m.login.password", "password": "a good password",
            "device_id": DRY, "identifier": { "type": "m.id.user", "user": alice.id } });
        alice.ok(Method::POST, "/login", login).await;
        let none = refused(&alice, Method::GET, "", None).await;
        assert_eq!(none, "404 M_NOT_FOUND", "it is a device like others now");
        let taken = refused(&alice, Method::PUT, "", Some(dry)).await;
        assert_eq!(taken, "400 M_INVALID_PARAM");

        ok(&alice, Method::PUT, "", Some(dehydrated(&alice, "next", 3))).await;
        alice.ok(Method::POST, "/logout/all", json!({})).await;
        let alice = alice.another_device().await;
        let none = refused(&alice, Method::GET, "", None).await;
        assert_eq!(none, "404 M_NOT_FOUND");
        assert!(dry_devices(&alice).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_isnt_a_proper_device_is_not_stored() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let own = alice.read("/account/whoami").await["device_id"].clone();
        let good = || dehydrated(&alice, DRY, 1);
        let with = |field: &str, value: Value| {
            let mut body = good();
            *body.pointer_mut(field).unwrap() = value;
            body
        };
        let without = |field: &str| {
            let mut body = good();
            body.as_object_mut().unwrap().remove(field);
            body
        };
        let large = json!({ "algorithm": "a", "x": "x".repeat(200_000) });
        for (body, wanted) in [
            (dehydrated(&bob, DRY, 1), "400 M_INVALID_PARAM"),
            (with("/device_id", json!("")), "400 M_INVALID_PARAM"),
            (
                with("/device_id", json!("x".repeat(256))),
                "400 M_INVALID_PARAM",
            ),
            (with("/device_id", json!("other")), "400 M_INVALID_PARAM"),
            (
                with("/device_keys/dehydrated", json!(false)),
                "400 M_INVALID_SIGNATURE",
            ),
            (
                with("/one_time_keys/signed_curve25519:A/key", json!("x")),
                "400 M_INVALID_SIGNATURE",
            ),
            (
                with("/fallback_keys/signed_curve25519:B/key", json!("x")),
                "400 M_INVALID_SIGNATURE",
            ),
            (with("/device_keys", json!([])), "400 M_BAD_JSON"),
            (with("/device_data", json!("x")), "400 M_BAD_JSON"),
            (with("/device_data", json!({})), "400 M_BAD_JSON"),
            (with("/device_data", large), "413 M_TOO_LARGE"),
            (
                with("/initial_device_display_name", json!(1)),
                "400 M_BAD_JSON",
            ),
            (without("device_id"), "400 M_BAD_JSON"),
            (without("device_data"), "400 M_BAD_JSON"),
            (without("device_keys"), "400 M_BAD_JSON"),
        ] {
            let told = refused(&alice, Method::PUT, "", Some(body.clone())).await;
            assert_eq!(told, wanted, "{body:.300}");
        }
        // Whoever is logged in with a device is not thrown out by deleting a dehydrated one.
        let body = dehydrated(&alice, own.as_str().unwrap(), 1);
        let told = refused(&alice, Method::PUT, "", Some(body)).await;
        assert_eq!(told, "400 M_INVALID_PARAM");
        assert!(dry_devices(&alice).await.is_empty());
        ok(&alice, Method::PUT, "", Some(good())).await;
    })
    .await;
}
