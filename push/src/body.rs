//! A notification in the words of the Push Gateway API
//! (<https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify>).

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::detail::Detail;
use crate::notification::{Counts, Device, Event, Notification, Prio};

/// The most bytes of a device's tweaks. Of more, only what the specification defines is told.
const MAX_TWEAKS: usize = 1024;
/// The most bytes of the name of a sound.
const MAX_SOUND: usize = 255;

#[derive(Serialize)]
struct Body<'a> {
    notification: Told<'a>,
}

#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    ids: Option<Ids<'a>>,
    #[serde(flatten)]
    event: Option<About<'a>>,
    prio: Prio,
    counts: ToldCounts,
    devices: Vec<ToldDevice<'a>>,
}

#[derive(Serialize)]
struct Ids<'a> {
    event_id: &'a str,
    room_id: &'a str,
}

/// What `event_id_only` leaves out.
#[derive(Serialize)]
struct About<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    sender: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender_display_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_alias: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_is_target: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    membership: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct ToldCounts {
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed_calls: Option<u64>,
}

#[derive(Serialize)]
struct ToldDevice<'a> {
    app_id: &'a str,
    pushkey: &'a str,
    pushkey_ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tweaks: Option<Map<String, Value>>,
}

/// The body of a request for these devices. Of their `data` the keys that are named stay here.
pub(crate) fn write(
    notification: &Notification,
    devices: &[Device],
    detail: Detail,
    hidden: &[&str],
) -> serde_json::Result<Vec<u8>> {
    let event = notification.event.as_ref();
    let ids = event.map(|event| Ids {
        event_id: &event.event_id,
        room_id: &event.room_id,
    });
    let told = Told {
        ids,
        event: event.and_then(|event| about(event, detail)),
        prio: notification.prio,
        counts: counts(notification.counts, event.is_none()),
        devices: devices
            .iter()
            .map(|device| told_device(device, detail, hidden))
            .collect(),
    };
    serde_json::to_vec(&Body { notification: told })
}

fn about(event: &Event, detail: Detail) -> Option<About<'_>> {
    if detail <= Detail::EventIdOnly {
        return None;
    }
    let content = event.content.as_deref();
    Some(About {
        kind: &event.kind,
        sender: &event.sender,
        sender_display_name: event.sender_display_name.as_deref(),
        room_name: event.room_name.as_deref(),
        room_alias: event.room_alias.as_deref(),
        user_is_target: event.user_is_target,
        membership: event.membership.as_deref(),
        content: content.filter(|_| detail == Detail::Full),
    })
}

/// Counts that are zero should be left out. Where nothing else is told, gateways take what is missing as unchanged, and
/// the number on the icon would stay.
fn counts(counts: Counts, alone: bool) -> ToldCounts {
    ToldCounts {
        unread: Some(counts.unread).filter(|unread| alone || *unread > 0),
        missed_calls: Some(counts.missed_calls).filter(|missed| *missed > 0),
    }
}

fn told_device<'a>(device: &'a Device, detail: Detail, hidden: &[&str]) -> ToldDevice<'a> {
    let whole = detail > Detail::Bare;
    ToldDevice {
        app_id: &device.app_id,
        pushkey: &device.pushkey,
        pushkey_ts: device.pushkey_ts,
        data: whole.then(|| {
            let shown = device
                .data
                .iter()
                .filter(|(key, _)| !hidden.contains(&key.as_str()));
            shown
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        }),
        tweaks: whole
            .then(|| tweaks(&device.tweaks))
            .filter(|tweaks| !tweaks.is_empty()),
    }
}

/// Tweaks are what users and their clients write into push rules.
fn tweaks(all: &Map<String, Value>) -> Map<String, Value> {
    let size = serde_json::to_vec(all).map_or(usize::MAX, |bytes| bytes.len());
    if size <= MAX_TWEAKS {
        return all.clone();
    }
    let mut known = Map::new();
    if let Some(sound) = sound(all) {
        known.insert("sound".into(), sound.into());
    }
    if let Some(Value::Bool(highlight)) = all.get("highlight") {
        known.insert("highlight".into(), (*highlight).into());
    }
    known
}

/// The sound that push rules want.
pub(crate) fn sound(tweaks: &Map<String, Value>) -> Option<&str> {
    let sound = tweaks.get("sound")?.as_str()?;
    (sound.len() <= MAX_SOUND).then_some(sound)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{device, message, object};

    fn written(notification: &Notification, device: &Device, detail: Detail) -> Value {
        let devices = std::slice::from_ref(device);
        let body = write(notification, devices, detail, &["url"]).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    fn phone() -> Device {
        let data = json!({
            "url": "https://push.example.org/_matrix/push/v1/notify",
            "format": "event_id_only",
            "default_payload": { "aps": { "mutable-content": 1 } },
        });
        let mut phone = device("V2h5IG9u", &data);
        phone.tweaks = object(&json!({ "sound": "bing" }));
        phone
    }

    #[test]
    fn all_that_may_be_told() {
        let mut notification = message("hello");
        let event = notification.event.as_mut().unwrap();
        event.user_is_target = Some(false);
        event.membership = Some("join".to_owned());
        let expected = json!({ "notification": {
            "event_id": "$event",
            "room_id": "!room:example.org",
            "type": "m.room.message",
            "sender": "@major:example.org",
            "sender_display_name": "Major Tom",
            "room_name": "Mission Control",
            "room_alias": "#control:example.org",
            "user_is_target": false,
            "membership": "join",
            "content": { "msgtype": "m.text", "body": "hello" },
            "prio": "high",
            "counts": { "unread": 2, "missed_calls": 1 },
            "devices": [{
                "app_id": "org.example.app",
                "pushkey": "V2h5IG9u",
                "pushkey_ts": 12_345_678,
                "data": {
                    "format": "event_id_only",
                    "default_payload": { "aps": { "mutable-content": 1 } },
                },
                "tweaks": { "sound": "bing" },
            }],
        }});
        assert_eq!(written(&notification, &phone(), Detail::Full), expected);
    }

    #[test]
    fn less_is_told_step_by_step() {
        let keys = |detail| {
            let body = written(&message("hello"), &phone(), detail);
            let told = object(&body["notification"]);
            let device = object(&told["devices"][0]);
            let list = |map: Map<String, Value>| map.keys().cloned().collect::<Vec<_>>().join(" ");
            (list(told), list(device))
        };
        let (told, device) = keys(Detail::WithoutContent);
        assert_eq!(
            told,
            "counts devices event_id prio room_alias room_id room_name sender sender_display_name type"
        );
        assert_eq!(device, "app_id data pushkey pushkey_ts tweaks");
        let (told, device) = keys(Detail::EventIdOnly);
        assert_eq!(told, "counts devices event_id prio room_id");
        assert_eq!(device, "app_id data pushkey pushkey_ts tweaks");
        let (told, device) = keys(Detail::Bare);
        assert_eq!(told, "counts devices event_id prio room_id");
        assert_eq!(device, "app_id pushkey pushkey_ts");
    }

    #[test]
    fn counts_that_are_zero_are_left_out_unless_nothing_else_is_told() {
        let mut notification = message("hello");
        notification.counts = Counts::default();
        let body = written(&notification, &phone(), Detail::Full);
        assert_eq!(body["notification"]["counts"], json!({}));
        let body = written(
            &Notification::badge(Counts::default()),
            &phone(),
            Detail::Full,
        );
        let told = object(&body["notification"]);
        assert_eq!(told["counts"], json!({ "unread": 0 }));
        assert_eq!(told["prio"], json!("low"));
        assert!(!told.contains_key("event_id") && !told.contains_key("type"));
    }

    #[test]
    fn of_too_many_tweaks_the_known_ones_are_told() {
        let mut phone = phone();
        phone.tweaks =
            object(&json!({ "sound": "bing", "highlight": true, "x": "y".repeat(1100) }));
        let body = written(&message("hello"), &phone, Detail::Full);
        let told = &body["notification"]["devices"][0]["tweaks"];
        assert_eq!(*told, json!({ "sound": "bing", "highlight": true }));
        phone.tweaks = object(&json!({ "sound": "b".repeat(1100), "highlight": "very" }));
        let body = written(&message("hello"), &phone, Detail::Full);
        assert_eq!(body["notification"]["devices"][0].get("tweaks"), None);
    }
}
