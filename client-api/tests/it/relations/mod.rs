//! Events that relate to others: who is told of them, and how.

mod access;
mod bundles;
mod edits;
mod pages;
mod recursion;
mod redactions;
mod relationships;
mod sending;
mod thread_list;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{User, esc, events, ids};

/// A message that relates to an event.
pub fn relating(rel_type: &str, to: &str) -> Value {
    json!({"msgtype": "m.text", "body": "b", "m.relates_to": {"rel_type": rel_type, "event_id": to}})
}

/// Sends one; gives its id.
pub async fn relate(user: &User, room: &str, rel_type: &str, to: &str) -> String {
    user.send(room, "m.room.message", relating(rel_type, to))
        .await
}

/// Edits a message; gives the edit's id.
pub async fn edit(user: &User, room: &str, of: &str, body: &str) -> String {
    let content = json!({"msgtype": "m.text", "body": format!("* {body}"),
        "m.new_content": {"msgtype": "m.text", "body": body},
        "m.relates_to": {"rel_type": "m.replace", "event_id": of}});
    user.send(room, "m.room.message", content).await
}

pub async fn redact(user: &User, room: &str, target: &str) {
    let path = format!("/rooms/{}/redact/{}/r{target}", esc(room), esc(target));
    user.ok(Method::PUT, &path, json!({})).await;
}

pub async fn ignore(user: &User, whom: &[&str]) {
    let users: serde_json::Map<String, Value> = (whom.iter())
        .map(|id| ((*id).to_owned(), json!({})))
        .collect();
    let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&user.id));
    user.ok(Method::PUT, &path, json!({ "ignored_users": users }))
        .await;
}

/// A GET of what is under `v1`.
pub async fn get(user: &User, path: &str) -> (StatusCode, Value) {
    let (path, token) = (format!("/_matrix/client/v1{path}"), Some(&*user.token));
    let server = &user.server;
    server.request(Method::GET, &path, token, None).await
}

/// Asks for what relates to an event; `more` is the rest of the path and the query.
pub async fn ask(user: &User, room: &str, event: &str, more: &str) -> (StatusCode, Value) {
    let path = format!("/rooms/{}/relations/{}{more}", esc(room), esc(event));
    get(user, &path).await
}

/// The ids of a page of it, and where the next one begins.
pub async fn page(
    user: &User,
    room: &str,
    event: &str,
    more: &str,
) -> (Vec<String>, Option<String>) {
    let (status, page) = ask(user, room, event, more).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let next = page["next_batch"].as_str().map(ToOwned::to_owned);
    (ids(&events(&page, &["chunk"])), next)
}

/// A room's threads: roots with their latest events, and where the next page begins.
pub async fn threads(
    user: &User,
    room: &str,
    query: &str,
) -> (Vec<(String, String)>, Option<String>) {
    let path = format!("/rooms/{}/threads{query}", esc(room));
    let (status, page) = get(user, &path).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let chunk = page["chunk"].as_array().unwrap().iter();
    let found = chunk.map(|root| {
        let thread = &root["unsigned"]["m.relations"]["m.thread"];
        (
            text(&root["event_id"]),
            text(&thread["latest_event"]["event_id"]),
        )
    });
    let next = page["next_batch"].as_str().map(ToOwned::to_owned);
    (found.collect(), next)
}

/// What is told of an event's children, by `/event`.
pub async fn bundle(user: &User, room: &str, event: &str) -> Value {
    let path = format!("/rooms/{}/event/{}", esc(room), esc(event));
    user.read(&path).await["unsigned"]["m.relations"].take()
}
