//! One violation of each sort.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use rhizome_contract::{Exchange, Part};
use serde_json::{Value, json};

const LOGIN: &str = "POST /_matrix/client/v3/login";
const INVITE: &str = "POST /_matrix/client/v3/rooms/!a:b/invite";
const KICK: &str = "POST /_matrix/client/v3/rooms/!a:b/kick";
const MESSAGES: &str = "GET /_matrix/client/v3/rooms/!a:b/messages";
const ROOMS: &str = "GET /_matrix/client/v3/joined_rooms";
const SEND: &str = "PUT /_matrix/federation/v1/send/1";

/// A request by somebody, and its answer; `Null` is no body.
fn exchange(what: &str, sent: &Value, status: u16, answer: &Value) -> Exchange {
    let (method, target) = what.split_once(' ').unwrap();
    let body = |json: &Value| match json {
        Value::Null => Bytes::new(),
        json => Bytes::from(json.to_string()),
    };
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
    Exchange {
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        sent: Some(body(sent)),
        status,
        answer: Some(body(answer)),
    }
}

#[track_caller]
fn finds(exchange: &Exchange, expected: &[(Part, &str)]) {
    let checked = exchange.check();
    let found: Vec<_> = checked
        .findings
        .iter()
        .map(|one| (one.part, one.place.as_str()))
        .collect();
    assert_eq!(found, expected, "{:?}", checked.findings);
}

fn error(code: &str) -> Value {
    json!({ "errcode": code, "error": "A sentence." })
}

#[test]
fn what_is_as_specified_passes() {
    let login = json!({ "type": "m.login.password", "password": "p",
        "identifier": { "type": "m.id.user", "user": "ada" } });
    let session = json!({ "user_id": "@ada:b", "access_token": "t", "device_id": "d" });
    let ok = exchange(LOGIN, &login, 200, &session);
    finds(&ok, &[]);
    assert_eq!(ok.check().operation, Some(LOGIN));
    finds(
        &exchange(INVITE, &json!({ "user_id": "@c:d" }), 200, &json!({})),
        &[],
    );
    let page = json!({ "start": "1", "chunk": [] });
    let target = format!("{MESSAGES}?dir=b&limit=10&other=%7B");
    finds(&exchange(&target, &Value::Null, 200, &page), &[]);
    let transaction = json!({ "origin": "a", "origin_server_ts": 1, "pdus": [] });
    finds(
        &exchange(SEND, &transaction, 200, &json!({ "pdus": { "$x": {} } })),
        &[],
    );
}

#[test]
fn bad_requests_may_be_refused_but_not_answered() {
    for (what, sent, part, place) in [
        (KICK, json!({ "user_id": 1 }), Part::Request, "/user_id"),
        (KICK, json!({ "user_id": "c" }), Part::Request, "/user_id"),
        (KICK, json!([]), Part::Request, ""),
        (INVITE, json!({ "user_id": 1 }), Part::Request, ""),
        (KICK, Value::Null, Part::Request, ""),
        (LOGIN, json!({}), Part::Request, "/type"),
        (
            SEND,
            json!({ "origin": "a", "origin_server_ts": 1 }),
            Part::Request,
            "/pdus",
        ),
    ] {
        let answered = exchange(what, &sent, 200, &json!({}));
        let findings = answered.check().findings;
        let found = findings
            .iter()
            .any(|one| one.part == part && one.place == place);
        assert!(found, "{what} {sent}: {findings:?}");
        finds(&exchange(what, &sent, 400, &error("M_BAD_JSON")), &[]);
    }
    let mut no_json = exchange(KICK, &Value::Null, 200, &json!({}));
    no_json.sent = Some(Bytes::from("{"));
    finds(&no_json, &[(Part::Request, "")]);
    // What the server didn't read to its end says nothing.
    no_json.sent = None;
    finds(&no_json, &[]);
}

#[test]
fn variables_have_types_and_some_are_required() {
    let page = json!({ "start": "1", "chunk": [] });
    for (query, place) in [
        ("limit=1", "/dir"),
        ("dir=x", "/dir"),
        ("dir=b&limit=ten", "/limit"),
    ] {
        let target = format!("{MESSAGES}?{query}");
        finds(
            &exchange(&target, &Value::Null, 200, &page),
            &[(Part::Parameter, place)],
        );
        finds(
            &exchange(&target, &Value::Null, 400, &error("M_INVALID_PARAM")),
            &[],
        );
    }
    let target = "GET /_matrix/client/v3/rooms/a/joined_members";
    let members = json!({ "joined": {} });
    finds(
        &exchange(target, &Value::Null, 200, &members),
        &[(Part::Parameter, "/roomId")],
    );
    // Decoded, the room's id is one; a list comes as one variable several times.
    let target = "GET /_matrix/client/v3/rooms/%21a%3Ab/joined_members";
    finds(&exchange(target, &Value::Null, 200, &members), &[]);
    let target = "GET /_matrix/federation/v1/backfill/!a:b?v=$1&v=$2&limit=1";
    let history = json!({ "origin": "a", "origin_server_ts": 1, "pdus": [] });
    finds(&exchange(target, &Value::Null, 200, &history), &[]);
}

#[test]
fn nobody_gets_in_without_saying_who_they_are() {
    let mut rooms = exchange(ROOMS, &Value::Null, 200, &json!({ "joined_rooms": [] }));
    finds(&rooms, &[]);
    rooms.headers.clear();
    finds(&rooms, &[(Part::Authorization, "")]);
    rooms.target.push_str("?access_token=x");
    finds(&rooms, &[]);
}

#[test]
fn statuses_are_those_of_the_operation_or_of_all() {
    for status in [401, 403, 429, 502] {
        finds(
            &exchange(ROOMS, &Value::Null, status, &error("M_UNKNOWN")),
            &[],
        );
    }
    for status in [201, 302, 409, 500] {
        let body = if status < 400 {
            json!({})
        } else {
            error("M_UNKNOWN")
        };
        finds(
            &exchange(ROOMS, &Value::Null, status, &body),
            &[(Part::Status, "")],
        );
    }
}

#[test]
fn errors_have_a_code_and_a_sentence() {
    for (status, body, place) in [
        (403, json!({}), "/errcode"),
        (403, json!({ "errcode": 403 }), "/errcode"),
        (403, error("forbidden"), "/errcode"),
        (403, error("FORBIDDEN"), "/errcode"),
        (403, json!({ "errcode": "M_FORBIDDEN" }), "/error"),
        (403, error("M_UNKNOWN_TOKEN"), "/errcode"),
        (400, error("M_LIMIT_EXCEEDED"), "/errcode"),
        (403, json!("no"), "/errcode"),
        (403, Value::Null, ""),
    ] {
        finds(
            &exchange(ROOMS, &Value::Null, status, &body),
            &[(Part::Answer, place)],
        );
    }
    finds(
        &exchange(ROOMS, &Value::Null, 403, &error("ORG.EXAMPLE.MSC1_NO")),
        &[],
    );
    // User-interactive authentication asks instead.
    let path = "POST /_matrix/client/v3/account/password";
    let asks = json!({ "flows": [{ "stages": ["m.login.dummy"] }], "params": {}, "session": "s" });
    let sent = json!({ "new_password": "p" });
    finds(&exchange(path, &sent, 401, &asks), &[]);
    let wrong = json!({ "flows": [{ "stages": 1 }] });
    finds(
        &exchange(path, &sent, 401, &wrong),
        &[(Part::Answer, "/flows/0/stages")],
    );
}

#[test]
fn answers_are_as_described() {
    for (body, place) in [
        (json!({}), "/joined_rooms"),
        (json!({ "joined_rooms": "none" }), "/joined_rooms"),
        (json!({ "joined_rooms": ["!a:b", 1] }), "/joined_rooms/1"),
        (json!([]), ""),
        (Value::Null, ""),
    ] {
        finds(
            &exchange(ROOMS, &Value::Null, 200, &body),
            &[(Part::Answer, place)],
        );
    }
    // Through references, all_of, names by pattern, and forms of which one fits.
    let sync = json!({ "next_batch": "1", "rooms": { "join": { "!a~/b": { "timeline": { "events": [{
        "type": "m.x", "content": {}, "sender": "@a:b", "origin_server_ts": "now", "event_id": "$x" }] } } } } });
    let place = "/rooms/join/!a~0~1b/timeline/events/0/origin_server_ts";
    let path = "GET /_matrix/client/v3/sync";
    finds(
        &exchange(path, &Value::Null, 200, &sync),
        &[(Part::Answer, place)],
    );
    let path = "PUT /_matrix/federation/v1/invite/!a:b/$c";
    let event = json!({ "type": "m.room.member", "origin_server_ts": 1, "sender": "@a:b", "state_key": "@c:d",
        "origin": "b", "content": { "membership": "invite" } });
    let mut told = exchange(path, &event, 200, &json!([200, { "event": event }]));
    finds(&told, &[]);
    told.answer = Some(Bytes::from(
        json!([200, { "event": { "type": 1 } }]).to_string(),
    ));
    let places: Vec<String> = told
        .check()
        .findings
        .into_iter()
        .map(|one| one.place)
        .collect();
    assert!(places.contains(&"/1/event/type".to_owned()), "{places:?}");
}

#[test]
fn other_paths_are_not_known() {
    let target = "GET /_matrix/client/v3/nothing";
    finds(
        &exchange(target, &Value::Null, 404, &error("M_UNRECOGNIZED")),
        &[],
    );
    finds(
        &exchange(target, &Value::Null, 200, &json!({})),
        &[(Part::Path, "")],
    );
    finds(
        &exchange(target, &Value::Null, 404, &error("M_NOT_FOUND")),
        &[(Part::Path, "")],
    );
    let method = "DELETE /_matrix/client/v3/sync";
    finds(
        &exchange(method, &Value::Null, 405, &error("M_UNRECOGNIZED")),
        &[],
    );
    finds(
        &exchange(method, &Value::Null, 404, &error("M_UNRECOGNIZED")),
        &[(Part::Path, "")],
    );
    // Not of the specification at all.
    finds(
        &exchange("GET /health", &Value::Null, 200, &Value::Null),
        &[],
    );
    // Its older spelling; an empty state key without the slash before it.
    let old = exchange(
        "GET /_matrix/client/r0/joined_rooms",
        &Value::Null,
        200,
        &json!({}),
    );
    finds(&old, &[(Part::Answer, "/joined_rooms")]);
    let name = "PUT /_matrix/client/v3/rooms/!a:b/state/m.room.name";
    let sent = json!({ "name": "n" });
    finds(
        &exchange(name, &sent, 200, &json!({ "event_id": 1 })),
        &[(Part::Answer, "/event_id")],
    );
    // What isn't there tells nothing of the operation.
    let missing = exchange(ROOMS, &Value::Null, 404, &error("M_UNRECOGNIZED"));
    assert_eq!(missing.check().operation, None);
}

#[test]
fn a_finding_says_what_and_where() {
    let wrong = exchange(ROOMS, &Value::Null, 200, &json!({ "joined_rooms": [1] }));
    assert_eq!(
        wrong.check().findings[0].to_string(),
        "GET /_matrix/client/v3/joined_rooms (200): Answer /joined_rooms/0 is 1, not [String]"
    );
}
