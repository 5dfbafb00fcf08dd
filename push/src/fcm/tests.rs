//! FCM up to what goes over the wire; `tests/it/fcm.rs` has a service that checks it.

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::*;
use crate::notification::Counts;
use crate::testing::{answer, device, encrypted, message};

const KEY: &str = include_str!("../../tests/it/keys/rsa.pem");

fn file() -> Value {
    json!({
        "type": "service_account",
        "project_id": "an-app",
        "private_key_id": "0123456789abcdef",
        "private_key": KEY,
        "client_email": "push@an-app.iam.example",
        "token_uri": "https://oauth.example/token",
    })
}

fn channel() -> Fcm {
    Fcm::new(file().to_string().as_bytes(), Fcm::ENDPOINT).unwrap()
}

fn at(minutes: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_mins(minutes)
}

/// A channel that has a token.
fn ready() -> Fcm {
    let fcm = channel();
    assert_eq!(give(&fcm, "first", 3600, 0), Outcome::Accepted);
    fcm
}

fn give(fcm: &Fcm, token: &str, expires_in: u64, minutes: u64) -> Outcome {
    let body = json!({ "access_token": token, "expires_in": expires_in, "token_type": "Bearer" });
    fcm.read_token(&answer(200, &[], &body.to_string()), at(minutes))
}

fn step(fcm: &Fcm, minutes: u64) -> Option<String> {
    let phone = device("registration", &json!({}));
    match fcm
        .next(&message("hello"), &phone, Detail::Full, at(minutes))
        .unwrap()
    {
        Step::Send(request) => Some(
            request.headers["authorization"]
                .to_str()
                .unwrap()
                .to_owned(),
        ),
        Step::Token(_) => None,
    }
}

fn sent(notification: &Notification, data: &Value) -> PushRequest {
    let phone = device("registration", data);
    let step = ready().next(notification, &phone, Detail::Full, at(0));
    let Ok(Step::Send(request)) = step else {
        panic!("{step:?}")
    };
    request
}

fn payload(notification: &Notification, data: &Value) -> Value {
    let mut body: Value = serde_json::from_slice(&sent(notification, data).body).unwrap();
    body["message"].take()
}

#[test]
fn an_account_is_googles_file() {
    let wrong = |key: &str, value: Value| {
        let mut file = file();
        file[key] = value;
        Fcm::new(file.to_string().as_bytes(), Fcm::ENDPOINT).err()
    };
    assert_eq!(wrong("more", json!(1)), None);
    assert_eq!(wrong("private_key_id", Value::Null), None);
    for key in ["project_id", "client_email", "private_key", "token_uri"] {
        assert!(wrong(key, Value::Null).is_some(), "{key}");
        assert!(wrong(key, json!("")).is_some(), "{key}");
    }
    assert!(wrong("client_email", json!("a\nb")).is_some());
    let error = wrong("private_key", json!([KEY])).unwrap();
    assert!(!error.to_string().contains("MII"), "{error}");
}

#[test]
fn a_token_comes_first_and_serves_until_shortly_before_its_end() {
    let fcm = channel();
    assert_eq!(step(&fcm, 0), None);
    assert_eq!(give(&fcm, "first", 3599, 0), Outcome::Accepted);
    assert_eq!(step(&fcm, 0).unwrap(), "Bearer first");
    assert_eq!(step(&fcm, 54).unwrap(), "Bearer first");
    assert_eq!(step(&fcm, 55), None);
    // Whatever it says, it isn't used longer than an hour; and one for four minutes is used for two.
    give(&fcm, "second", u64::MAX, 60);
    assert_eq!(step(&fcm, 114).unwrap(), "Bearer second");
    assert_eq!(step(&fcm, 115), None);
    give(&fcm, "third", 240, 120);
    assert_eq!(step(&fcm, 121).unwrap(), "Bearer third");
    assert_eq!(step(&fcm, 122), None);
}

#[test]
fn a_request_for_a_token_is_a_form() {
    let phone = device("registration", &json!({}));
    let step = channel().next(&message("hello"), &phone, Detail::Full, at(0));
    let Ok(Step::Token(request)) = step else {
        panic!("{step:?}")
    };
    assert_eq!(request.url.as_str(), "https://oauth.example/token");
    assert_eq!(request.named_by, NamedBy::Operator);
    assert_eq!(
        request.headers["content-type"],
        "application/x-www-form-urlencoded"
    );
    let body = String::from_utf8(request.body.clone()).unwrap();
    let begin = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=ey";
    assert!(body.starts_with(begin), "{body}");
    assert!(!format!("{request:?}").contains("ey"));
}

#[test]
fn without_a_token_it_is_tried_again() {
    let fcm = channel();
    let read =
        |status, body: &str| fcm.read_token(&answer(status, &[("retry-after", "9")], body), at(0));
    let again = |after: Option<u64>, why: &str| Outcome::Again {
        after: after.map(Duration::from_secs),
        why: why.to_owned(),
    };
    let refused = read(
        400,
        r#"{"error":"invalid_grant","error_description":"clock"}"#,
    );
    assert_eq!(refused, again(None, "token: 400 invalid_grant"));
    assert_eq!(read(401, "<html>"), again(None, "token: 401"));
    assert_eq!(read(503, ""), again(Some(9), "token: 503"));
    let long = json!({ "access_token": "x".repeat(9000), "expires_in": 3600 }).to_string();
    for odd in [
        "{}",
        "",
        r#"{"access_token":"","expires_in":1}"#,
        r#"{"access_token":"a\nb","expires_in":1}"#,
        &long,
    ] {
        assert_eq!(read(200, odd), again(None, "200 without a token"));
    }
    assert_eq!(step(&fcm, 0), None);
}

#[test]
fn a_message_says_ids_and_counts_and_no_more_unless_it_is_wanted() {
    let request = sent(&message("hello"), &json!({}));
    let url = "https://fcm.googleapis.com/v1/projects/an-app/messages:send";
    assert_eq!(request.url.as_str(), url);
    let ids = json!({
        "token": "registration",
        "data": {
            "event_id": "$event", "room_id": "!room:example.org",
            "unread": "2", "missed_calls": "1", "prio": "high",
        },
        "android": { "priority": "HIGH", "ttl": "172800s" },
    });
    assert_eq!(payload(&message("hello"), &json!({})), ids);
    assert_eq!(
        payload(&encrypted(), &json!({ "org.rhizome.show": "text" })),
        ids
    );
    let text = payload(&message("hello"), &json!({ "org.rhizome.show": "text" }));
    assert_eq!(text["data"]["sender_display_name"], "Major Tom");
    assert_eq!(text["data"]["room_name"], "Mission Control");
    assert_eq!(text["data"]["body"], "hello");
    let names = payload(&message("hello"), &json!({ "org.rhizome.show": "names" }));
    assert_eq!(names["data"]["sender"], "@major:example.org");
    assert_eq!(names["data"].get("body"), None);
}

#[test]
fn newer_counts_take_the_place_of_older_ones() {
    let badge = payload(&Notification::badge(Counts::default()), &json!({}));
    assert_eq!(
        badge["data"],
        json!({ "unread": "0", "missed_calls": "0", "prio": "low" })
    );
    assert_eq!(badge["android"]["priority"], "NORMAL");
    assert_eq!(badge["android"]["collapse_key"], "counts");
}

#[test]
fn what_the_client_wants_is_there_as_far_as_fcm_takes_it() {
    let data = json!({ "default_payload": {
        "cs": "secret", "unread": "99", "number": 1, "from": "x", "google.x": "x", "gcm_x": "x",
        "message_type": "x", "": "x",
    }});
    let told = payload(&message("hello"), &data);
    let keys: Vec<_> = told["data"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        keys.join(" "),
        "cs event_id missed_calls prio room_id unread"
    );
    assert_eq!(told["data"]["unread"], "2");
}

#[test]
fn every_message_fits() {
    let data = |length| json!({ "default_payload": { "x": "y".repeat(length) }, "org.rhizome.show": "text" });
    let long = message(&"😀".repeat(600));
    for (length, detail) in [
        (1000, Detail::Full),
        (2000, Detail::WithoutContent),
        (3850, Detail::EventIdOnly),
        (4090, Detail::Bare),
    ] {
        let request = sent(&long, &data(length));
        assert_eq!(request.detail, detail, "{length}");
        assert!(request.body.len() <= MAX_MESSAGE);
    }
}

fn error(status: &str, code: Option<&str>, field: Option<&str>) -> String {
    let mut details = vec![];
    if let Some(code) = code {
        let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
        details.push(json!({ "@type": kind, "errorCode": code }));
    }
    if let Some(field) = field {
        let kind = "type.googleapis.com/google.rpc.BadRequest";
        details.push(json!({ "@type": kind, "fieldViolations": [{ "field": field }] }));
    }
    json!({ "error": { "status": status, "message": "No.", "details": details } }).to_string()
}

#[test]
fn answers_of_the_service() {
    let fcm = ready();
    let read = |status, body: &str, headers: &[_]| {
        let phone = device("registration", &json!({}));
        fcm.read(&answer(status, headers, body), &phone, at(0))
    };
    assert_eq!(
        read(200, r#"{"name":"projects/an-app/messages/0:1"}"#, &[]),
        Reading::accepted()
    );

    let rejected = Reading::rejected("registration");
    assert_eq!(
        read(404, &error("NOT_FOUND", Some("UNREGISTERED"), None), &[]),
        rejected
    );
    assert_eq!(read(404, &error("NOT_FOUND", None, None), &[]), rejected);
    assert_eq!(
        read(
            403,
            &error("PERMISSION_DENIED", Some("SENDER_ID_MISMATCH"), None),
            &[]
        ),
        rejected
    );
    let invalid = |field| error("INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), Some(field));
    assert_eq!(read(400, &invalid("message.token"), &[]), rejected);
    let message = r#"{"error":{"status":"INVALID_ARGUMENT",
        "message":"The registration token is not a valid FCM registration token"}}"#;
    assert_eq!(read(400, message, &[]), rejected);

    let dropped = |why: &str| Reading::dropped(why.to_owned());
    assert_eq!(
        read(400, &invalid("message.data[0].value"), &[]),
        dropped("400 INVALID_ARGUMENT")
    );
    let third = error("UNAUTHENTICATED", Some("THIRD_PARTY_AUTH_ERROR"), None);
    assert_eq!(
        read(401, &third, &[]),
        dropped("401 THIRD_PARTY_AUTH_ERROR")
    );

    let again = |after: Option<u64>, why: &str| {
        Reading::again(after.map(Duration::from_secs), why.to_owned())
    };
    // A page that says 404 is not about the registration.
    assert_eq!(read(404, "<html>", &[]), again(None, "404"));
    assert_eq!(
        read(403, &error("PERMISSION_DENIED", None, None), &[]),
        again(None, "403 PERMISSION_DENIED")
    );
    let quota = error("RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED"), None);
    assert_eq!(
        read(429, &quota, &[]),
        again(Some(60), "429 QUOTA_EXCEEDED")
    );
    assert_eq!(
        read(429, &quota, &[("retry-after", "5")]),
        again(Some(5), "429 QUOTA_EXCEEDED")
    );
    assert_eq!(
        read(503, "", &[("retry-after", "7")]),
        again(Some(7), "503")
    );
    assert_eq!(
        read(500, &error("INTERNAL", None, None), &[]),
        again(None, "500 INTERNAL")
    );
}

#[test]
fn a_token_that_is_refused_is_forgotten_once() {
    let fcm = ready();
    let phone = device("registration", &json!({}));
    let read = |minutes| fcm.read(&answer(401, &[], ""), &phone, at(minutes));
    let again = Reading::again(None, "401".to_owned());
    assert_eq!(read(0), again);
    assert_eq!(read(1), Reading::Renew);
    assert_eq!(step(&fcm, 1), None);
    assert_eq!(read(1), again);
}

#[test]
fn a_registration_is_one_word() {
    let check = |key: &str| channel().check(&device(key, &json!({}))).is_ok();
    assert!(check("c_Xy:APA91bHun4MxP5-egoKMwt2KZFBaFUH"));
    for bad in ["", "a b", "a\nb", "ä"] {
        assert!(!check(bad), "{bad}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let fcm = ready();
    let request = sent(&message("hello"), &json!({}));
    let shown = format!("{fcm:?} {request:?} {:?}", answer(200, &[], "first"));
    for secret in ["first", "registration", "PRIVATE", "hello"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
