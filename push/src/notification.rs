//! What may be told: of an event, of counts, and to which device.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// How long services keep a notification for a device that is out of reach.
pub(crate) const LIFETIME: Duration = Duration::from_hours(48);

/// What a user is to be told: of an event, or of nothing but their counts.
#[derive(Debug, Clone)]
pub struct Notification {
    /// The event; none if only the counts have changed.
    pub event: Option<Event>,
    /// What the user hasn't read.
    pub counts: Counts,
    /// How much it hurries.
    pub prio: Prio,
}

impl Notification {
    /// New counts alone, as after a receipt.
    pub fn badge(counts: Counts) -> Self {
        Self {
            event: None,
            counts,
            prio: Prio::Low,
        }
    }
}

/// An event that somebody is notified of. Texts are whole: what doesn't fit is left out later.
#[derive(Clone)]
pub struct Event {
    /// Its id.
    pub event_id: String,
    /// The room that it's in.
    pub room_id: String,
    /// Its type.
    pub kind: String,
    /// Its sender.
    pub sender: String,
    /// What the sender is called in the room.
    pub sender_display_name: Option<String>,
    /// What the room is called.
    pub room_name: Option<String>,
    /// An alias to display for the room.
    pub room_alias: Option<String>,
    /// Of a member event, whether it's about the user who is notified.
    pub user_is_target: Option<bool>,
    /// Of a member event, which membership it brings.
    pub membership: Option<String>,
    /// Its content.
    pub content: Option<Box<RawValue>>,
    /// Whether a later one of the same room may take its place while the device is out of reach. Not so for what must
    /// reach the user by itself: highlights, invites, calls.
    pub replaceable: bool,
}

impl Event {
    /// Whether what it says is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.kind == "m.room.encrypted"
    }
}

/// What people write and what they are called stays out of logs.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("event_id", &self.event_id)
            .field("room_id", &self.room_id)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What a user hasn't read, in all their rooms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Unread messages.
    pub unread: u64,
    /// Missed calls.
    pub missed_calls: u64,
}

impl Counts {
    /// The number on an app's icon.
    pub(crate) fn badge(self) -> u64 {
        self.unread.saturating_add(self.missed_calls)
    }
}

/// How much a notification hurries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Prio {
    /// It is for now, and may wake a device.
    High,
    /// It may wait for the device to wake.
    Low,
}

impl Prio {
    /// Its word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Low => "low",
        }
    }
}

/// One pusher's device, and what this notification says to it alone.
#[derive(Clone)]
pub struct Device {
    /// The app.
    pub app_id: String,
    /// What the app is reached by.
    pub pushkey: String,
    /// When the pushkey was last updated, in seconds since 1970.
    pub pushkey_ts: u64,
    /// The pusher's `data`, whole, as the client gave it.
    pub data: Map<String, Value>,
    /// The tweaks of the push rule that matched.
    pub tweaks: Map<String, Value>,
}

impl Device {
    /// A text of the pusher's data.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.data.get(key)?.as_str()
    }

    /// What the client wants to be in every notification, as gateways know it.
    pub(crate) fn default_payload(&self) -> Option<&Map<String, Value>> {
        self.data.get("default_payload")?.as_object()
    }
}

/// A pushkey lets whoever has it send to the device, and `data` may hold secrets.
impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("app_id", &self.app_id)
            .finish_non_exhaustive()
    }
}
