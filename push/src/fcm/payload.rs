//! What an app gets by FCM: data of its own, which it makes a notification of.

use serde_json::{Map, Value, json};

use crate::detail::Detail;
use crate::notification::{Device, LIFETIME, Notification, Prio};
use crate::shown::shown;

/// The message. Its data are strings, on top of those that the client wants to be in every one.
pub(super) fn write(
    notification: &Notification,
    device: &Device,
    detail: Detail,
) -> serde_json::Result<Vec<u8>> {
    let priority = match notification.prio {
        Prio::High => "HIGH",
        Prio::Low => "NORMAL",
    };
    let mut android = json!({
        "priority": priority,
        "ttl": format!("{}s", LIFETIME.as_secs()),
    });
    // FCM keeps four keys of a device at most, and forgets any of more. So rooms have none of their own.
    if notification.event.is_none() {
        android["collapse_key"] = "counts".into();
    }
    serde_json::to_vec(&json!({ "message": {
        "token": device.pushkey,
        "data": data(notification, device, detail),
        "android": android,
    }}))
}

fn data(notification: &Notification, device: &Device, detail: Detail) -> Map<String, Value> {
    let mut data = Map::new();
    if detail > Detail::Bare {
        let wanted = device.default_payload().into_iter().flatten();
        let wanted = wanted.filter(|(key, value)| value.is_string() && is_free(key));
        data.extend(wanted.map(|(key, value)| (key.clone(), value.clone())));
    }
    let mut insert = |key: &str, value: String| data.insert(key.to_owned(), value.into());
    insert("unread", notification.counts.unread.to_string());
    insert("missed_calls", notification.counts.missed_calls.to_string());
    insert("prio", notification.prio.as_str().to_owned());
    if let Some(event) = &notification.event {
        insert("event_id", event.event_id.clone());
        insert("room_id", event.room_id.clone());
        if let Some(shown) = shown(notification, detail) {
            insert("type", event.kind.clone());
            insert("sender", event.sender.clone());
            insert("sender_display_name", shown.sender.to_owned());
            if let Some(room) = shown.room {
                insert("room_name", room.to_owned());
            }
            if let Some(text) = shown.text {
                insert("body", text);
            }
        }
    }
    data
}

/// FCM refuses a message for keys that it has for itself.
fn is_free(key: &str) -> bool {
    let theirs = ["from", "message_type", "collapse_key"].contains(&key);
    !key.is_empty() && !theirs && !key.starts_with("google") && !key.starts_with("gcm")
}
