//! Apple's push service up to what goes over the wire; `tests/it/apns.rs` has a service that checks it.

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::*;
use crate::jwt::Es256;
use crate::notification::Counts;
use crate::testing::{answer, device, encrypted, message, object};

const TOKEN: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff";

fn config() -> ApnsConfig {
    ApnsConfig {
        key: Es256::generate().unwrap(),
        key_id: "ABC123DEFG".to_owned(),
        team_id: "DEF123GHIJ".to_owned(),
        topics: BTreeMap::from([("org.example.app".to_owned(), "org.example".to_owned())]),
        endpoint: ApnsConfig::PRODUCTION.to_owned(),
        loc_key: "NEWS".to_owned(),
    }
}

fn channel() -> Apns {
    Apns::new(config()).unwrap()
}

fn at(minutes: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_mins(minutes)
}

fn sent(notification: &Notification, data: &Value) -> PushRequest {
    sent_to(&channel(), notification, &device(TOKEN, data), at(0))
}

fn sent_to(apns: &Apns, told: &Notification, device: &Device, now: SystemTime) -> PushRequest {
    let step = apns.next(told, device, Detail::Full, now);
    let Ok(Step::Send(request)) = step else {
        panic!("{step:?}")
    };
    request
}

fn payload(notification: &Notification, data: &Value) -> Value {
    serde_json::from_slice(&sent(notification, data).body).unwrap()
}

#[test]
fn a_pushkey_is_a_token_in_base64_or_hexadecimal() {
    let bytes: Vec<u8> = (0..31).chain([0xff]).collect();
    let padded = base64::engine::general_purpose::STANDARD.encode(&bytes);
    let url_safe = URL_SAFE_NO_PAD.encode(&bytes);
    for pushkey in [
        TOKEN,
        &TOKEN.to_uppercase(),
        &padded,
        padded.trim_end_matches('='),
        &url_safe,
    ] {
        assert_eq!(device_token(pushkey).unwrap(), TOKEN, "{pushkey}");
    }
    let long = "00".repeat(101);
    for bad in [
        "",
        "key",
        "../../x",
        &TOKEN[..62],
        &long,
        &format!("{TOKEN}/"),
    ] {
        assert!(device_token(bad).is_err(), "{bad}");
    }
}

#[test]
fn only_apps_that_are_set_are_sent_to() {
    let mut phone = device(TOKEN, &json!({}));
    assert_eq!(channel().check(&phone), Ok(()));
    phone.app_id = "org.example.other".to_owned();
    assert_eq!(
        channel().check(&phone).unwrap_err().errcode(),
        "M_INVALID_PARAM"
    );
}

#[test]
fn settings_that_cant_be_right_are_refused() {
    let wrong = |change: fn(&mut ApnsConfig)| {
        let mut config = config();
        change(&mut config);
        Apns::new(config).is_err()
    };
    assert!(!wrong(|_| {}));
    assert!(wrong(|config| config.key = b"key".to_vec()));
    assert!(wrong(|config| config.key_id = String::new()));
    assert!(wrong(|config| config.team_id = "a b".to_owned()));
    assert!(wrong(
        |config| config.endpoint = "ftp://a.example".to_owned()
    ));
    assert!(wrong(|config| *config
        .topics
        .values_mut()
        .next()
        .unwrap() = "a\nb".to_owned()));
}

#[test]
fn headers_say_for_whom_how_soon_and_how_long() {
    let request = sent(&message("hello"), &json!({}));
    let url = format!("https://api.push.apple.com/3/device/{TOKEN}");
    assert_eq!(request.url.as_str(), url);
    assert_eq!(request.named_by, NamedBy::Operator);
    let headers = &request.headers;
    assert!(headers["authorization"].is_sensitive());
    assert_eq!(headers["apns-topic"], "org.example");
    assert_eq!(headers["apns-push-type"], "alert");
    assert_eq!(headers["apns-priority"], "10");
    assert_eq!(headers["apns-expiration"], "172800");
    assert_eq!(headers["apns-collapse-id"].len(), 43);
    let badge = sent(&Notification::badge(Counts::default()), &json!({}));
    assert_eq!(badge.headers["apns-priority"], "5");
    assert!(!badge.headers.contains_key("apns-collapse-id"));
}

#[test]
fn a_payload_says_ids_and_counts_and_no_more_unless_it_is_wanted() {
    let bare = json!({
        "aps": { "alert": { "loc-key": "NEWS" }, "badge": 3, "mutable-content": 1, "thread-id": "!room:example.org" },
        "event_id": "$event", "room_id": "!room:example.org", "unread_count": 2, "missed_calls": 1,
    });
    assert_eq!(payload(&message("hello"), &json!({})), bare);
    assert_eq!(
        payload(&encrypted(), &json!({ "org.rhizome.show": "text" })),
        bare
    );
    let alert = |show| {
        payload(&message("hello"), &json!({ "org.rhizome.show": show }))["aps"]["alert"].clone()
    };
    let names = json!({ "title": "Major Tom", "subtitle": "Mission Control", "loc-key": "NEWS" });
    assert_eq!(alert("names"), names);
    let text = json!({ "title": "Major Tom", "subtitle": "Mission Control", "body": "hello" });
    assert_eq!(alert("text"), text);
}

#[test]
fn what_the_client_wants_in_every_payload_is_there() {
    let data = json!({ "default_payload": {
        "aps": { "mutable-content": 0, "alert": { "loc-key": "Notification" }, "category": "x", "badge": 99 },
        "client_identifier": "abc", "event_id": "$mine",
    }});
    let mut phone = device(TOKEN, &data);
    phone.tweaks = object(&json!({ "sound": "ring" }));
    let request = sent_to(&channel(), &message("hello"), &phone, at(0));
    let payload: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(payload["client_identifier"], "abc");
    assert_eq!(payload["event_id"], "$event");
    let aps = json!({
        "alert": { "loc-key": "Notification" }, "category": "x", "mutable-content": 0,
        "sound": "ring", "badge": 3, "thread-id": "!room:example.org",
    });
    assert_eq!(payload["aps"], aps);
}

#[test]
fn counts_alone_show_nothing() {
    let data = json!({ "default_payload": { "aps": { "alert": "news" }, "x": 1 } });
    let badge = payload(&Notification::badge(Counts::default()), &data);
    assert_eq!(badge, json!({ "aps": { "badge": 0 }, "unread_count": 0 }));
}

#[test]
fn every_payload_fits() {
    let data = |length| json!({ "default_payload": { "x": "y".repeat(length) }, "org.rhizome.show": "text" });
    // A text has 500 characters at most, here of four bytes.
    let long = message(&"😀".repeat(600));
    for (length, detail) in [
        (1000, Detail::Full),
        (2000, Detail::WithoutContent),
        (3870, Detail::EventIdOnly),
        (4090, Detail::Bare),
    ] {
        let request = sent(&long, &data(length));
        assert_eq!(request.detail, detail, "{length}");
        assert!(request.body.len() <= MAX_PAYLOAD);
    }
}

#[test]
fn a_provider_token_is_used_for_forty_minutes() {
    let (apns, phone) = (channel(), device(TOKEN, &json!({})));
    let token = |minutes| {
        let request = sent_to(&apns, &message("hello"), &phone, at(minutes));
        request.headers["authorization"].clone()
    };
    let first = token(100);
    assert_eq!(token(139), first);
    let second = token(140);
    assert_ne!(second, first);
    // Back in time, the token would be of the future.
    assert_ne!(token(10), second);
}

#[test]
fn an_expired_token_is_renewed_but_not_too_often() {
    let (apns, phone) = (channel(), device(TOKEN, &json!({})));
    let expired = answer(403, &[], r#"{"reason":"ExpiredProviderToken"}"#);
    let again = Reading::again(None, "403 ExpiredProviderToken".to_owned());
    assert_eq!(apns.read(&expired, &phone, at(0)), again);
    sent_to(&apns, &message("hello"), &phone, at(0));
    assert_eq!(apns.read(&expired, &phone, at(19)), again);
    assert_eq!(apns.read(&expired, &phone, at(20)), Reading::Renew);
    assert_eq!(apns.read(&expired, &phone, at(20)), again);
}

#[test]
fn answers_of_the_service() {
    let apns = channel();
    let read = |status, body: &str| {
        apns.read(
            &answer(status, &[], body),
            &device(TOKEN, &json!({})),
            at(0),
        )
    };
    let with = |status, code: &str| read(status, &json!({ "reason": code }).to_string());
    assert_eq!(read(200, ""), Reading::accepted());
    let rejected = Reading::rejected(TOKEN);
    assert_eq!(with(410, "Unregistered"), rejected);
    assert_eq!(with(410, "ExpiredToken"), rejected);
    assert_eq!(with(400, "BadDeviceToken"), rejected);
    assert_eq!(with(400, "DeviceTokenNotForTopic"), rejected);
    let dropped = |why: &str| Reading::dropped(why.to_owned());
    assert_eq!(with(400, "BadTopic"), dropped("400 BadTopic"));
    assert_eq!(with(403, "Forbidden"), dropped("403 Forbidden"));
    assert_eq!(read(400, "<html>"), dropped("400"));
    let again = |why: &str| Reading::again(None, why.to_owned());
    assert_eq!(
        with(403, "InvalidProviderToken"),
        again("403 InvalidProviderToken")
    );
    assert_eq!(with(429, "TooManyRequests"), again("429 TooManyRequests"));
    assert_eq!(with(503, "Shutdown"), again("503 Shutdown"));
    assert_eq!(with(413, "PayloadTooLarge"), Reading::TooLarge);
}

#[test]
fn a_token_that_was_gone_before_it_came_again_stays() {
    let mut phone = device(TOKEN, &json!({}));
    let gone = answer(410, &[], r#"{"reason":"Unregistered","timestamp":1000000}"#);
    phone.pushkey_ts = 1001;
    let read = channel().read(&gone, &phone, at(0));
    assert_eq!(read, Reading::dropped("410 Unregistered".to_owned()));
    phone.pushkey_ts = 1000;
    assert_eq!(
        channel().read(&gone, &phone, at(0)),
        Reading::rejected(TOKEN)
    );
}

#[test]
fn nothing_secret_is_shown() {
    let shown = format!("{:?} {:?}", channel(), sent(&message("hello"), &json!({})));
    for secret in [TOKEN, "eyJ", "hello"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
