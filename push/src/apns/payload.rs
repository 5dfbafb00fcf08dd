//! What a device of Apple's gets.

use serde_json::{Map, Value, json};

use crate::body::sound;
use crate::detail::Detail;
use crate::notification::{Device, Event, Notification};
use crate::shown::{Shown, shown};

/// The payload, on top of what the client wants to be in every one.
pub(super) fn write(
    notification: &Notification,
    device: &Device,
    detail: Detail,
    loc_key: &str,
) -> serde_json::Result<Vec<u8>> {
    let badge = notification.counts.badge();
    let mut payload = Map::new();
    let mut aps = Map::new();
    if let Some(event) = &notification.event {
        let wanted = device.default_payload().filter(|_| detail > Detail::Bare);
        payload = wanted.cloned().unwrap_or_default();
        if let Some(Value::Object(wanted)) = payload.remove("aps") {
            aps = wanted;
        }
        payload.insert("event_id".into(), event.event_id.as_str().into());
        payload.insert("room_id".into(), event.room_id.as_str().into());
        alert(&mut aps, event, shown(notification, detail), loc_key);
        if let Some(sound) = sound(&device.tweaks).filter(|_| detail > Detail::Bare) {
            aps.insert("sound".into(), sound.into());
        }
    }
    aps.insert("badge".into(), badge.into());
    payload.insert("aps".into(), aps.into());
    payload.insert("unread_count".into(), notification.counts.unread.into());
    if notification.counts.missed_calls > 0 {
        payload.insert(
            "missed_calls".into(),
            notification.counts.missed_calls.into(),
        );
    }
    serde_json::to_vec(&payload)
}

/// What is shown of an event, unless the app changes it, which it may.
fn alert(aps: &mut Map<String, Value>, event: &Event, shown: Option<Shown<'_>>, loc_key: &str) {
    match shown {
        Some(shown) => {
            aps.insert("alert".into(), told(shown, loc_key));
        }
        None if !aps.contains_key("alert") => {
            aps.insert("alert".into(), json!({ "loc-key": loc_key }));
        }
        None => {}
    }
    aps.entry("mutable-content").or_insert(1.into());
    aps.entry("thread-id")
        .or_insert(event.room_id.as_str().into());
}

fn told(shown: Shown<'_>, loc_key: &str) -> Value {
    let mut alert = Map::new();
    alert.insert("title".into(), shown.sender.into());
    if let Some(room) = shown.room {
        alert.insert("subtitle".into(), room.into());
    }
    match shown.text {
        Some(text) => alert.insert("body".into(), text.into()),
        None => alert.insert("loc-key".into(), loc_key.into()),
    };
    alert.into()
}
