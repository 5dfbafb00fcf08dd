//! Keys in their proper form and otherwise, with real signatures.

use ruma::user_id;

use serde_json::json;

use super::*;
use crate::sign::{KeyPair, json_text};

fn pair(seed: u8) -> KeyPair {
    KeyPair::from_seed("D", &[seed; 32]).unwrap()
}

fn object(value: Value) -> Object {
    let Value::Object(object) = value else {
        panic!("not an object")
    };
    object
}

/// With `user`'s signature under a name.
fn signed(value: Value, user: &UserId, name: &str, key: &KeyPair) -> Object {
    let mut object = object(value);
    let signature = key.sign(json_text(&object).unwrap().as_bytes());
    let signatures = json!({ user: { name: hash::to_base64(&signature) } });
    object.insert("signatures".into(), signatures);
    object
}

fn device(key: &KeyPair) -> Value {
    json!({
        "user_id": "@ada:here", "device_id": "D", "algorithms": ["a"],
        "keys": { "ed25519:D": key.public_base64(), "curve25519:D": "c" },
    })
}

#[test]
fn a_device_is_kept_as_it_was_signed() {
    let (ada, key) = (user_id!("@ada:here"), pair(1));
    let mut uploaded = signed(device(&key), ada, "ed25519:D", &key);
    let alone = to_canonical(&uploaded).unwrap();
    uploaded.insert("unsigned".into(), json!({ "x": 1 }));
    uploaded["signatures"]["@eve:there"] = json!({ "ed25519:E": "e" });
    let kept = DeviceKeys::read(uploaded.clone(), ada, "D".into()).unwrap();
    assert_eq!(kept.json, alone);
    assert_eq!(kept.ed25519, Some(key.public()));
    assert!(kept.say_the_same(&kept.json, "D".into()));
    let mut more = uploaded.clone();
    more["signatures"]["@ada:here"]["ed25519:own"] = json!("added");
    let more = DeviceKeys::read(more, ada, "D".into()).unwrap();
    assert_ne!(more.json, kept.json);
    assert!(more.say_the_same(&kept.json, "D".into()));
    let mut unsigned = uploaded.clone();
    unsigned.insert("signatures".into(), json!({}));
    let unsigned = DeviceKeys::read(unsigned, ada, "D".into()).unwrap();
    assert!(!kept.say_the_same(&unsigned.json, "D".into()));
    let again = DeviceKeys::signing_key(&kept.json, "D".into());
    assert_eq!(again, kept.ed25519);

    uploaded.insert("algorithms".into(), json!([]));
    let forged = DeviceKeys::read(uploaded.clone(), ada, "D".into());
    assert!(matches!(forged, Err(KeyError::Signature(_))));
    // Another's key, under the same name.
    uploaded = signed(device(&pair(2)), ada, "ed25519:D", &key);
    let forged = DeviceKeys::read(uploaded.clone(), ada, "D".into());
    assert!(matches!(forged, Err(KeyError::Signature(_))));
    uploaded.insert("signatures".into(), json!({}));
    DeviceKeys::read(uploaded.clone(), ada, "D".into()).unwrap();
    let other = DeviceKeys::read(uploaded.clone(), user_id!("@bob:here"), "D".into());
    assert_eq!(other, Err(KeyError::NotYours("user_id")));
    let other = DeviceKeys::read(uploaded, ada, "E".into());
    assert_eq!(other, Err(KeyError::NotYours("device_id")));
}

#[test]
fn a_cross_signing_key_has_its_name() {
    let (ada, master, own) = (user_id!("@ada:here"), pair(1), pair(2));
    let key = |pair: &KeyPair, usage: &str| {
        let public = pair.public_base64();
        json!({ "user_id": ada, "usage": [usage], "keys": { format!("ed25519:{public}"): public } })
    };
    let read = |value: Value, usage| CrossSigningKey::read(object(value), ada, usage);
    let first = read(key(&master, "master"), KeyUsage::Master).unwrap();
    assert_eq!(first.public, master.public_base64());
    let by = signed(key(&own, "self_signing"), ada, &first.key_id(), &master);
    let second = CrossSigningKey::read(by.clone(), ada, KeyUsage::SelfSigning).unwrap();
    second.is_signed_by(ada, &first).unwrap();
    let unsigned = read(key(&own, "self_signing"), KeyUsage::SelfSigning).unwrap();
    assert!(unsigned.is_same(&second));
    assert!(unsigned.is_signed_by(ada, &first).is_err());
    assert!(second.is_signed_by(ada, &second).is_err());
    for usage in [KeyUsage::Master, KeyUsage::UserSigning] {
        let wrong = CrossSigningKey::read(by.clone(), ada, usage);
        assert!(matches!(wrong, Err(KeyError::Malformed(_))));
    }
    for (field, wrong) in [
        ("user_id", json!(1)),
        ("usage", json!("master")),
        ("keys", json!([])),
        ("keys", json!({})),
        ("keys", json!({ "ed25519:AAAA": "AAAA" })),
        (
            "keys",
            json!({ format!("ed25519:{}", own.public_base64()): 1 }),
        ),
        (
            "keys",
            json!({ format!("rsa:{}", own.public_base64()): own.public_base64() }),
        ),
    ] {
        let mut key = key(&master, "master");
        key[field] = wrong;
        assert!(read(key, KeyUsage::Master).is_err(), "{field}");
    }
}

#[test]
fn one_time_keys_are_signed_by_their_device() {
    let (ada, key) = (user_id!("@ada:here"), pair(1));
    let public = key.public();
    let signer = Some((ada, <&DeviceId>::from("D"), &public));
    let good = signed(json!({ "key": "k" }), ada, "ed25519:D", &key);
    let text = serde_json::to_string(&good).unwrap();
    assert_eq!(
        read_one_time_key("signed_curve25519", &text, signer).unwrap(),
        to_canonical(&good).unwrap()
    );
    let bare = "\"a\\u0062\"";
    assert_eq!(
        read_one_time_key("curve25519", bare, signer).unwrap(),
        "\"ab\""
    );
    for signer in [signer, None] {
        let refused = read_one_time_key("signed_curve25519", bare, signer);
        assert!(refused.is_err(), "it is said to be signed");
    }
    let by_others = (ada, <&DeviceId>::from("E"), &public);
    assert!(read_one_time_key("signed_curve25519", &text, Some(by_others)).is_err());
    read_one_time_key("signed_curve25519", &text, None).unwrap();
    for wrong in [
        "7",
        "[]",
        "{}",
        "{\"key\":1,\"signatures\":{}}",
        "{\"key\":\"k\"}",
        "{\"key\":\"k\",\"signatures\":{}}",
        "{\"key\":\"k\",\"key\":\"l\",\"signatures\":{}}",
    ] {
        assert!(
            read_one_time_key("curve25519", wrong, signer).is_err(),
            "{wrong}"
        );
    }
    let long = format!("\"{}\"", "x".repeat(MAX_ONE_TIME_KEY_BYTES));
    assert_eq!(
        read_one_time_key("curve25519", &long, None),
        Err(KeyError::TooLarge(MAX_ONE_TIME_KEY_BYTES))
    );
}

#[test]
fn what_is_added_is_shown() {
    let (ada, bob) = (user_id!("@ada:here"), user_id!("@bob:here"));
    let kept = "{\"keys\":{},\"signatures\":{\"@ada:here\":{\"a\":\"b\"}}}";
    assert_eq!(shown(kept, [], None).unwrap(), kept);
    let named = shown(kept, [], Some("\"}")).unwrap();
    let named: Value = serde_json::from_str(&named).unwrap();
    assert_eq!(named["unsigned"], json!({ "device_display_name": "\"}" }));
    assert_eq!(named["signatures"], json!({ ada: { "a": "b" } }));
    let added = [(ada, "c", "d"), (bob, "e", "f")];
    let all = shown(kept, added, Some("x")).unwrap();
    let all: Value = serde_json::from_str(&all).unwrap();
    assert_eq!(
        all["signatures"],
        json!({ ada: { "a": "b", "c": "d" }, bob: { "e": "f" } })
    );
    assert_eq!(all["unsigned"], json!({ "device_display_name": "x" }));
}
