//! Device keys, one-time and fallback keys: uploaded, told, claimed.

use http::Method;
use rhizome_storage::Dialect;
use serde_json::{Value, json};

use super::signer::{Device, query};
use crate::harness::{User, next, story};

async fn claim(user: &User, of: &Device) -> Value {
    let body = json!({ "one_time_keys": { &of.user.id: { &of.id: "signed_curve25519" } } });
    let answer = user.ok(Method::POST, "/keys/claim", body).await;
    assert_eq!(answer["failures"], json!({}));
    answer["one_time_keys"][&of.user.id][&of.id].clone()
}

/// What `/sync` says that a device has left.
async fn left(user: &User) -> (Value, Value) {
    let sync = user.sync(None, "").await;
    let counts = sync["device_one_time_keys_count"].clone();
    (counts, sync["device_unused_fallback_key_types"].clone())
}

#[tokio::test]
async fn a_device_says_what_it_is() {
    story(async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let phone = Device::of(&ada, 1).await;
        // Nobody known, nobody with keys.
        let asked = json!({ &ada.id: [], "@nobody:here": [] });
        let told = query(&bob, asked).await;
        assert_eq!(told["device_keys"], json!({ &ada.id: {} }));

        let mut keys = phone.keys();
        // Nobody believes what isn't signed, or what others say.
        keys["unsigned"] = json!({ "device_display_name": "not this" });
        keys["signatures"]["@bob:here"] = json!({ "ed25519:X": "x" });
        let answer = phone.upload(json!({ "device_keys": keys })).await;
        assert_eq!(
            answer["one_time_key_counts"],
            json!({ "signed_curve25519": 0 })
        );
        let path = format!("/devices/{}", phone.id);
        ada.ok(Method::PUT, &path, json!({ "display_name": "Ada's" }))
            .await;

        let mut shown = phone.keys();
        shown["unsigned"] = json!({ "device_display_name": "Ada's" });
        for asked in [json!([]), json!([phone.id, "NONE"])] {
            let told = query(&bob, json!({ &ada.id: asked })).await;
            assert_eq!(
                told["device_keys"],
                json!({ &ada.id: { &phone.id: shown } })
            );
            assert_eq!(told["failures"], json!({}));
        }
        let told = query(&bob, json!({ &ada.id: ["NONE"] })).await;
        assert_eq!(told["device_keys"], json!({ &ada.id: {} }));
        // Gone with its device.
        ada.ok(Method::POST, "/logout", json!({})).await;
        let told = query(&bob, json!({ &ada.id: [] })).await;
        assert_eq!(told["device_keys"], json!({ &ada.id: {} }));
    })
    .await;
}

#[tokio::test]
async fn what_is_not_the_devices_is_refused() {
    story(async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let (phone, other) = (Device::of(&ada, 1).await, Device::of(&bob, 2).await);
        let with = |change: &dyn Fn(&mut Value)| {
            let mut keys = phone.keys();
            change(&mut keys);
            json!({ "device_keys": keys })
        };
        let forged = with(&|keys| keys["algorithms"] = json!(["none"]));
        assert_eq!(phone.refused(forged).await, "M_INVALID_SIGNATURE");
        let others = json!({ "device_keys": other.keys() });
        assert_eq!(phone.refused(others).await, "M_INVALID_PARAM");
        for field in ["user_id", "device_id", "algorithms", "keys", "signatures"] {
            let wrong = with(&|keys| keys[field] = json!(7));
            assert_eq!(phone.refused(wrong).await, "M_BAD_JSON", "{field}");
            let without = with(&|keys| drop(keys.as_object_mut().unwrap().remove(field)));
            assert_eq!(phone.refused(without).await, "M_BAD_JSON", "{field}");
        }
        let large = with(&|keys| keys["more"] = "x".repeat(70_000).into());
        assert_eq!(phone.refused(large).await, "M_INVALID_SIGNATURE");
        let mut large = phone.keys();
        large["more"] = "x".repeat(70_000).into();
        let large = json!({ "device_keys": phone.signer.sign(&large) });
        assert_eq!(phone.refused(large).await, "M_TOO_LARGE");
        // Nothing of it was stored.
        let told = query(&bob, json!({ &ada.id: [] })).await;
        assert_eq!(told["device_keys"], json!({ &ada.id: {} }));

        phone.upload(json!({ "device_keys": phone.keys() })).await;
        let stolen = json!({ "one_time_keys": other.one_time(&["1"]) });
        assert_eq!(phone.refused(stolen).await, "M_INVALID_SIGNATURE");
        let mut forged = phone.one_time(&["1"]);
        forged["signed_curve25519:1"]["key"] = "another".into();
        let forged = json!({ "one_time_keys": forged });
        assert_eq!(phone.refused(forged).await, "M_INVALID_SIGNATURE");
        for name in ["", "x", ":", "a:", ":b"] {
            let nameless = json!({ "one_time_keys": { name: "key" } });
            assert_eq!(phone.refused(nameless).await, "M_BAD_JSON", "{name}");
        }
        for key in [
            json!(7),
            json!([]),
            json!({}),
            json!({ "key": 7, "signatures": {} }),
            json!("unsigned"),
        ] {
            let wrong = json!({ "fallback_keys": { "signed_curve25519:1": key } });
            assert_eq!(phone.refused(wrong).await, "M_BAD_JSON");
        }
        let ids: Vec<String> = (0..501).map(|n| n.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let many = json!({ "one_time_keys": phone.one_time(&ids) });
        assert_eq!(phone.refused(many).await, "M_INVALID_PARAM");
        let two = json!({ "fallback_keys": { "curve25519:1": "a", "curve25519:2": "b" } });
        assert_eq!(phone.refused(two).await, "M_INVALID_PARAM");
        let long = json!({ "one_time_keys": { "curve25519:1": "a".repeat(4_096) } });
        assert_eq!(phone.refused(long).await, "M_TOO_LARGE");
        let none = json!({ "signed_curve25519": 0 });
        assert_eq!(left(&ada).await, (none, json!([])));
    })
    .await;
}

/// What others are told of anew is what is new.
#[tokio::test]
async fn the_same_again_says_nothing() {
    story(async |server| {
        let ada = server.register("ada").await;
        let phone = Device::of(&ada, 1).await;
        let all = json!({
            "device_keys": phone.keys(),
            "one_time_keys": phone.one_time(&["1", "2"]),
            "fallback_keys": phone.fallback("9"),
        });
        let since = next(&ada.sync(None, "").await);
        phone.upload(all.clone()).await;
        let sync = ada.sync(Some(&since), "").await;
        assert_eq!(sync["device_lists"]["changed"], json!([ada.id]));
        let head = server.store.log().head();
        let counts = phone.upload(all).await["one_time_key_counts"].clone();
        assert_eq!(counts, json!({ "signed_curve25519": 2 }));
        phone.upload(json!({})).await;
        assert_eq!(server.store.log().head(), head);

        let mut taken = phone.one_time(&["3", "2"]);
        taken["signed_curve25519:2"] = phone.signer.sign(&json!({ "key": "another" }));
        let taken = json!({ "one_time_keys": taken });
        assert_eq!(phone.refused(taken).await, "M_INVALID_PARAM");
        let overlapping = json!({ "one_time_keys": phone.one_time(&["2", "3"]) });
        let counts = phone.upload(overlapping).await["one_time_key_counts"].clone();
        assert_eq!(counts, json!({ "signed_curve25519": 3 }));
    })
    .await;
}

#[tokio::test]
async fn each_key_is_given_once_and_then_the_fallback() {
    story(async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let phone = Device::of(&ada, 1).await;
        let body = json!({ "device_keys": phone.keys(), "one_time_keys": phone.one_time(&["b"]) });
        phone.upload(body).await;
        let body = json!({
            "one_time_keys": phone.one_time(&["a"]),
            "fallback_keys": phone.fallback("z"),
        });
        phone.upload(body).await;
        let counts = |n: i32| json!({ "signed_curve25519": n });
        let unused = json!(["signed_curve25519"]);
        assert_eq!(left(&ada).await, (counts(2), unused.clone()));
        // In the order of upload.
        assert_eq!(claim(&bob, &phone).await, phone.one_time(&["b"]));
        assert_eq!(left(&ada).await, (counts(1), unused.clone()));
        assert_eq!(claim(&bob, &phone).await, phone.one_time(&["a"]));
        assert_eq!(left(&ada).await, (counts(0), unused));
        for _ in 0..2 {
            assert_eq!(claim(&bob, &phone).await, phone.fallback("z"));
            assert_eq!(left(&ada).await, (counts(0), json!([])));
        }
        // Whoever isn't there has no keys, and of other algorithms there are none.
        let body = json!({ "one_time_keys": {
            "@nobody:here": { "X": "signed_curve25519" },
            &ada.id: { "X": "signed_curve25519", &phone.id: "curve25519" },
        } });
        let answer = bob.ok(Method::POST, "/keys/claim", body).await;
        assert_eq!(answer["one_time_keys"], json!({}));
    })
    .await;
}

/// A device that comes with another identity takes back what it had uploaded: nobody could use it.
#[tokio::test]
async fn another_identity_begins_anew() {
    story(async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let mut phone = Device::of(&ada, 1).await;
        phone
            .upload(json!({
                "device_keys": phone.keys(),
                "one_time_keys": phone.one_time(&["1", "2"]),
                "fallback_keys": phone.fallback("9"),
            }))
            .await;
        phone = Device::of(&ada, 2).await;
        let body = json!({ "device_keys": phone.keys(), "one_time_keys": phone.one_time(&["2"]) });
        let counts = phone.upload(body).await["one_time_key_counts"].clone();
        assert_eq!(counts, json!({ "signed_curve25519": 1 }));
        assert_eq!(claim(&bob, &phone).await, phone.one_time(&["2"]));
        assert_eq!(claim(&bob, &phone).await, Value::Null);
    })
    .await;
}

#[tokio::test]
async fn what_is_no_question_is_refused() {
    story(async |server| {
        let ada = server.register("ada").await;
        for (path, body) in [
            (
                "query",
                json!({ "device_keys": { &ada.id: { "X": true } } }),
            ),
            ("query", json!({ "device_keys": { "ada": [] } })),
            ("query", json!({})),
            ("claim", json!({ "one_time_keys": { &ada.id: ["X"] } })),
            ("claim", json!({ "one_time_keys": { &ada.id: { "X": 7 } } })),
            ("upload", json!({ "one_time_keys": [] })),
        ] {
            let path = format!("/keys/{path}");
            let (status, answer) = ada.call(Method::POST, &path, Some(body.clone())).await;
            assert_eq!(
                (status.as_u16(), &answer["errcode"]),
                (400, &json!("M_BAD_JSON")),
                "{body}"
            );
        }
        let users = (0..10_001).map(|n| (format!("@u{n}:here"), json!([])));
        let many = json!({ "device_keys": users.collect::<serde_json::Map<_, _>>() });
        let (status, answer) = ada.call(Method::POST, "/keys/query", Some(many)).await;
        assert_eq!(
            (status.as_u16(), &answer["errcode"]),
            (400, &json!("M_INVALID_PARAM"))
        );
    })
    .await;
}

/// A sync that has nothing of keys asks no database for them.
#[tokio::test]
async fn counts_are_no_query_in_a_warm_sync() {
    story(async |server| {
        let ada = server.register("ada").await;
        let phone = Device::of(&ada, 1).await;
        let body = json!({ "device_keys": phone.keys(), "one_time_keys": phone.one_time(&["1"]) });
        phone.upload(body).await;
        let since = next(&ada.sync(None, "").await);
        ada.sync(Some(&since), "").await;
        let before = server.store.counters().now();
        let sync = ada.sync(Some(&since), "").await;
        let queries = (server.store.counters().now() - before).queries;
        assert_eq!(
            sync["device_one_time_keys_count"],
            json!({ "signed_curve25519": 1 })
        );
        // Where there may be other processes, how far the log is.
        assert_eq!(
            queries,
            u64::from(server.store.dialect() == Dialect::Postgres)
        );
    })
    .await;
}
