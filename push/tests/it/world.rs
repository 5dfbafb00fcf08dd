//! Who is notified, of what, and when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rhizome_push::{Channel, Counts, Device, Event, Notification, Outcome, Prio, deliver};
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};

use crate::service::Sender;

/// A clock that stands still until the test moves it.
pub struct Clock(AtomicU64);

impl Clock {
    pub fn new() -> Self {
        Self(AtomicU64::new(1_700_000_000))
    }

    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.seconds())
    }

    pub fn seconds(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
    }
}

/// Hands a notification over as a server would.
pub async fn hand_over(
    channel: &dyn Channel,
    notification: &Notification,
    device: &Device,
    clock: &Clock,
    sender: &Sender,
) -> Outcome {
    deliver(
        channel,
        notification,
        device,
        || clock.now(),
        |request| sender.send(request),
    )
    .await
}

pub fn device(pushkey: &str, data: &Value) -> Device {
    Device {
        app_id: "org.example.app".to_owned(),
        pushkey: pushkey.to_owned(),
        pushkey_ts: 1_600_000_000,
        data: data.as_object().unwrap().clone(),
        tweaks: Map::new(),
    }
}

pub fn message(text: &str) -> Notification {
    let content = json!({ "msgtype": "m.text", "body": text });
    let event = Event {
        event_id: "$event".to_owned(),
        room_id: "!room:example.org".to_owned(),
        kind: "m.room.message".to_owned(),
        sender: "@major:example.org".to_owned(),
        sender_display_name: Some("Major Tom".to_owned()),
        room_name: Some("Mission Control".to_owned()),
        room_alias: None,
        user_is_target: None,
        membership: None,
        content: Some(to_raw_value(&content).unwrap()),
        replaceable: false,
    };
    Notification {
        event: Some(event),
        counts: Counts {
            unread: 2,
            missed_calls: 0,
        },
        prio: Prio::High,
    }
}

/// How long to wait before the next try, if the other side says so.
pub fn again(outcome: &Outcome) -> Option<Duration> {
    let Outcome::Again { after, .. } = outcome else {
        panic!("{outcome:?}")
    };
    *after
}
