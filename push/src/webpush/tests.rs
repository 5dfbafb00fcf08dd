//! Web Push up to what goes over the wire; `tests/it/webpush.rs` decrypts it.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::*;
use crate::notification::Counts;
use crate::outcome::Outcome;
use crate::testing::{answer, device, encrypted, message};

/// The subscriber of RFC 8291's examples.
const KEY: &str =
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

fn channel() -> WebPush {
    let key = WebPush::generate_key().unwrap();
    WebPush::new(&key, "mailto:admin@example.org", Schemes::Https).unwrap()
}

fn browser() -> Device {
    device(
        KEY,
        &json!({ "url": "https://push.example.org/sub/1", "auth": AUTH }),
    )
}

fn sent(notification: &Notification, device: &Device) -> PushRequest {
    let step = channel().next(notification, device, Detail::Full, UNIX_EPOCH);
    let Ok(Step::Send(request)) = step else {
        panic!("{step:?}")
    };
    request
}

#[test]
fn a_subscription_has_an_address_a_key_and_a_secret() {
    let wrong = |change: &dyn Fn(&mut Device)| {
        let mut device = browser();
        change(&mut device);
        channel().check(&device).err()
    };
    let data = |key: &'static str, value: Value| {
        wrong(&|device| {
            device.data.insert(key.to_owned(), value.clone());
        })
    };
    assert_eq!(wrong(&|_| {}), None);
    assert_eq!(data("format", json!("event_id_only")), None);
    assert!(data("url", json!("http://push.example.org/sub/1")).is_some());
    for missing in ["url", "auth"] {
        let error = wrong(&|device| drop(device.data.remove(missing))).unwrap();
        assert_eq!(error.errcode(), "M_MISSING_PARAM");
    }
    for auth in [
        json!(""),
        json!(1),
        json!("BTBZMqHH6r4Tts7J_aSIgg=="),
        json!("BTBZMqHH6r4Tts7J_aSI"),
        json!("BTBZMqHH6r4Tts7J/aSIgg"),
    ] {
        assert!(data("auth", auth.clone()).is_some(), "{auth}");
    }
    let off_the_curve = KEY.replace("iw4", "iw8");
    let short = &KEY[..KEY.len() - 4];
    let padded = format!("{KEY}=");
    for key in [off_the_curve.as_str(), short, &padded, "key", "AAAA"] {
        let error = wrong(&|device| key.clone_into(&mut device.pushkey));
        assert!(error.is_some(), "{key}");
    }
}

#[test]
fn headers_say_how_long_and_how_soon() {
    let request = sent(&message("hello"), &browser());
    assert_eq!(request.url.as_str(), "https://push.example.org/sub/1");
    assert_eq!(request.named_by, NamedBy::User);
    let headers = &request.headers;
    assert_eq!(headers["content-encoding"], "aes128gcm");
    assert_eq!(headers["ttl"], "172800");
    assert_eq!(headers["urgency"], "high");
    assert!(
        headers["authorization"]
            .to_str()
            .unwrap()
            .starts_with("vapid t=ey")
    );
    let low = sent(&Notification::badge(Counts::default()), &browser());
    assert_eq!(low.headers["urgency"], "normal");
}

#[test]
fn only_what_may_be_replaced_has_a_topic() {
    let topic = |notification: &Notification, device: &Device| {
        let request = sent(notification, device);
        let topic = request.headers.get("topic")?.to_str().unwrap().to_owned();
        assert!(topic.len() == 32 && URL_SAFE_NO_PAD.decode(&topic).is_ok());
        Some(topic)
    };
    let in_room = |room: &str| {
        let mut notification = message("hello");
        let event = notification.event.as_mut().unwrap();
        event.replaceable = true;
        room.clone_into(&mut event.room_id);
        notification
    };
    let mut other = browser();
    other
        .data
        .insert("auth".into(), "AAAAAAAAAAAAAAAAAAAAAA".into());
    let badge = Notification::badge(Counts::default());

    assert_eq!(topic(&message("hello"), &browser()), None);
    let one = topic(&in_room("!one"), &browser());
    assert!(one.is_some());
    assert_eq!(topic(&in_room("!one"), &browser()), one);
    assert_ne!(topic(&in_room("!two"), &browser()), one);
    assert_ne!(topic(&in_room("!one"), &other), one);
    assert_ne!(topic(&badge, &browser()), one);
    assert_eq!(topic(&badge, &browser()), topic(&badge, &browser()));
}

#[test]
fn nothing_of_an_encrypted_event_and_nothing_unwanted_goes_out() {
    assert_eq!(sent(&message("hello"), &browser()).detail, Detail::Full);
    assert_eq!(sent(&encrypted(), &browser()).detail, Detail::EventIdOnly);
    let mut ids = browser();
    ids.data.insert("format".into(), "event_id_only".into());
    assert_eq!(sent(&message("hello"), &ids).detail, Detail::EventIdOnly);
}

#[test]
fn every_message_fits_into_what_push_services_take() {
    for length in [10, 2_000, 3_500, 4_000, 60_000] {
        let request = sent(&message(&"x".repeat(length)), &browser());
        let full = request.detail == Detail::Full;
        assert_eq!(full, length < 3_600, "{length}");
        assert!(request.body.len() <= 4096);
    }
    let mut chatty = browser();
    chatty.data.insert("x".into(), "y".repeat(4000).into());
    assert_eq!(sent(&message("hello"), &chatty).detail, Detail::Bare);
    let too_long = channel().activation(&browser(), &"x".repeat(4000), UNIX_EPOCH);
    assert_eq!(too_long, Err(BuildError::TooLarge));
}

#[test]
fn answers_of_push_services() {
    let channel = channel();
    let read = |status, seconds| {
        let now = UNIX_EPOCH + Duration::from_secs(seconds);
        channel.read(
            &answer(status, &[("retry-after", "7")], ""),
            &browser(),
            now,
        )
    };
    for status in [200, 201, 202, 204] {
        assert_eq!(read(status, 0), Reading::accepted());
    }
    for status in [404, 410] {
        assert_eq!(read(status, 0), Reading::rejected(KEY));
    }
    let seven = Some(Duration::from_secs(7));
    for status in [408, 429, 500, 503] {
        assert_eq!(read(status, 0), Reading::again(seven, status.to_string()));
    }
    for status in [301, 400, 405] {
        assert_eq!(read(status, 0), Reading::dropped(status.to_string()));
    }
    assert_eq!(read(413, 0), Reading::TooLarge);
}

#[test]
fn a_refused_token_is_renewed_before_the_subscription_goes() {
    let channel = channel();
    let at = |minutes| UNIX_EPOCH + Duration::from_mins(minutes);
    let send = |minutes| {
        channel
            .next(&message("hello"), &browser(), Detail::Full, at(minutes))
            .is_ok()
    };
    let read = |status, minutes| channel.read(&answer(status, &[], ""), &browser(), at(minutes));
    let rejected = Reading::Done(Outcome::Rejected(vec![KEY.to_owned()]));

    assert!(send(0));
    assert_eq!(read(403, 10), Reading::Renew);
    assert!(send(10));
    assert_eq!(read(403, 10), rejected);
    assert_eq!(read(401, 10), Reading::again(None, "401".to_owned()));
    assert_eq!(read(401, 20), Reading::Renew);
}

#[test]
fn nothing_secret_is_shown() {
    let channel = channel();
    let request = sent(&message("hello"), &browser());
    let shown = format!("{channel:?} {request:?} {:?}", browser());
    for secret in [AUTH, KEY, "sub/1", "eyJ"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
