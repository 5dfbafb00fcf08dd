//! What the unit tests tell, and of whom.

use http::{HeaderName, StatusCode};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use crate::message::PushAnswer;
use crate::notification::{Counts, Device, Event, Notification, Prio};

pub(crate) fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

pub(crate) fn device(pushkey: &str, data: &Value) -> Device {
    Device {
        app_id: "org.example.app".to_owned(),
        pushkey: pushkey.to_owned(),
        pushkey_ts: 12_345_678,
        data: object(data),
        tweaks: Map::new(),
    }
}

fn event(kind: &str, content: Box<RawValue>) -> Notification {
    let event = Event {
        event_id: "$event".to_owned(),
        room_id: "!room:example.org".to_owned(),
        kind: kind.to_owned(),
        sender: "@major:example.org".to_owned(),
        sender_display_name: Some("Major Tom".to_owned()),
        room_name: Some("Mission Control".to_owned()),
        room_alias: Some("#control:example.org".to_owned()),
        user_is_target: None,
        membership: None,
        content: Some(content),
        replaceable: false,
    };
    Notification {
        event: Some(event),
        counts: Counts {
            unread: 2,
            missed_calls: 1,
        },
        prio: Prio::High,
    }
}

/// A message with this text.
pub(crate) fn message(text: &str) -> Notification {
    let content = json!({ "msgtype": "m.text", "body": text });
    event("m.room.message", to_raw_value(&content).unwrap())
}

/// An encrypted one.
pub(crate) fn encrypted() -> Notification {
    let content = json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "c2VjcmV0" });
    event("m.room.encrypted", to_raw_value(&content).unwrap())
}

pub(crate) fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> PushAnswer {
    let headers = headers.iter().map(|(name, value)| {
        let name = HeaderName::from_static(name);
        (name, value.parse().unwrap())
    });
    PushAnswer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers.collect(),
        body: body.into(),
    }
}
