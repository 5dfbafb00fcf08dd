//! Spaces, and what rooms are told to be from outside.

mod between;
mod doors;
mod pages;
mod summaries;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{User, esc};

/// A GET of the first version of the API.
pub async fn get(user: &User, path: &str) -> (StatusCode, Value) {
    let path = format!("/_matrix/client/v1{path}");
    let (server, token) = (&user.server, Some(user.token.as_str()));
    server.request(Method::GET, &path, token, None).await
}

/// A space; gives its id.
pub async fn space(user: &User, more: Value) -> String {
    let mut request = json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } });
    for (key, value) in more.as_object().unwrap() {
        request[key] = value.clone();
    }
    user.create(request).await
}

/// Initial state that lets everybody read.
pub fn open() -> Value {
    json!([{ "type": "m.room.history_visibility", "state_key": "",
        "content": { "history_visibility": "world_readable" } }])
}

/// Initial state that lets members of a room in.
pub fn restricted(to: &str) -> Value {
    json!([{ "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "restricted",
        "allow": [{ "type": "m.room_membership", "room_id": to }] } }])
}

/// Puts a room into a space.
pub async fn put(user: &User, space: &str, child: &str, more: Value) {
    let server = user.id.split_once(':').unwrap().1;
    let mut content = json!({ "via": [server] });
    for (key, value) in more.as_object().unwrap() {
        content[key] = value.clone();
    }
    user.set_state(space, "m.space.child", child, content).await;
}

/// What a space holds, with a further query such as `limit=1`.
pub async fn hierarchy(user: &User, space: &str, query: &str) -> (StatusCode, Value) {
    get(user, &format!("/rooms/{}/hierarchy?{query}", esc(space))).await
}

/// The same, which must succeed.
pub async fn look(user: &User, space: &str, query: &str) -> Value {
    let (status, answer) = hierarchy(user, space, query).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

/// The rooms of a page, in order.
pub fn rooms(page: &Value) -> Vec<&str> {
    let rooms = page["rooms"].as_array().unwrap().iter();
    rooms
        .map(|room| room["room_id"].as_str().unwrap())
        .collect()
}

/// What a page shows of a room.
pub fn shown<'a>(page: &'a Value, room: &str) -> &'a Value {
    let rooms = page["rooms"].as_array().unwrap().iter();
    let mut found = rooms.filter(|shown| shown["room_id"] == room);
    found.next().unwrap_or(&Value::Null)
}

/// The children that a page says a room has, in order.
pub fn children<'a>(page: &'a Value, room: &str) -> Vec<&'a str> {
    let children = shown(page, room)["children_state"].as_array().unwrap();
    let children = children.iter();
    children
        .map(|child| child["state_key"].as_str().unwrap())
        .collect()
}
