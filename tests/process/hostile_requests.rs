//! Requests with a text of an attacker in all places.

use serde_json::{Value, json};

use crate::client::path;

/// Method, target and body.
pub(crate) type Request = (&'static str, String, Value);

pub(crate) fn requests(user: &str, room: &str, text: &str) -> Vec<Request> {
    let seg = path(text);
    let mut requests = of_rooms(&path(user), room, &seg, text);
    requests.extend(of_accounts(&seg, text));
    requests
}

fn of_rooms(user: &str, room: &str, seg: &str, text: &str) -> Vec<Request> {
    let in_room = format!("/rooms/{}", path(room));
    vec![
        (
            "POST",
            "/createRoom".to_owned(),
            json!({ "name": text, "topic": text }),
        ),
        (
            "POST",
            "/createRoom".to_owned(),
            json!({ "room_alias_name": text }),
        ),
        (
            "POST",
            "/createRoom".to_owned(),
            json!({ "room_version": text }),
        ),
        ("POST", "/createRoom".to_owned(), json!({ "preset": text })),
        (
            "POST",
            "/createRoom".to_owned(),
            json!({ "invite": [text] }),
        ),
        (
            "POST",
            "/publicRooms".to_owned(),
            json!({ "filter": { "generic_search_term": text } }),
        ),
        ("POST", "/publicRooms".to_owned(), json!({ "since": text })),
        (
            "POST",
            format!("/user/{user}/filter"),
            json!({ "room": { "rooms": [text] } }),
        ),
        ("GET", format!("/user/{user}/filter/{seg}"), json!({})),
        ("GET", format!("/sync?since={seg}"), json!({})),
        ("GET", format!("/sync?filter={seg}"), json!({})),
        (
            "GET",
            format!("{in_room}/messages?dir=b&from={seg}"),
            json!({}),
        ),
        ("GET", format!("{in_room}/event/{seg}"), json!({})),
        ("GET", format!("{in_room}/context/{seg}"), json!({})),
        ("GET", format!("/rooms/{seg}/state"), json!({})),
        ("GET", format!("/directory/room/{seg}"), json!({})),
        (
            "PUT",
            format!("/directory/room/{seg}"),
            json!({ "room_id": room }),
        ),
        ("GET", format!("/profile/{seg}"), json!({})),
        ("POST", format!("/join/{seg}"), json!({})),
        (
            "POST",
            format!("{in_room}/invite"),
            json!({ "user_id": text }),
        ),
        (
            "POST",
            format!("{in_room}/kick"),
            json!({ "user_id": text, "reason": text }),
        ),
        (
            "POST",
            format!("{in_room}/receipt/m.read/{seg}"),
            json!({ "thread_id": text }),
        ),
        (
            "PUT",
            format!("{in_room}/typing/{seg}"),
            json!({ "typing": true }),
        ),
        (
            "PUT",
            format!("{in_room}/redact/{seg}/{seg}"),
            json!({ "reason": text }),
        ),
    ]
}

fn of_accounts(seg: &str, text: &str) -> Vec<Request> {
    vec![
        (
            "PUT",
            format!("/devices/{seg}"),
            json!({ "display_name": text }),
        ),
        (
            "GET",
            format!("/register/available?username={seg}"),
            json!({}),
        ),
        (
            "POST",
            "/register".to_owned(),
            json!({ "username": text, "password": text, "device_id": text,
                    "initial_device_display_name": text, "auth": { "type": "m.login.dummy" } }),
        ),
        (
            "POST",
            "/login".to_owned(),
            json!({ "type": "m.login.password", "password": text, "device_id": text,
                    "identifier": { "type": "m.id.user", "user": text } }),
        ),
        (
            "POST",
            "/login".to_owned(),
            json!({ "type": "m.login.password", "password": "correct horse battery",
                    "device_id": text, "initial_device_display_name": text,
                    "identifier": { "type": "m.id.user", "user": "alice" } }),
        ),
    ]
}
