//! What is asked about a thread.

use ruma::{OwnedEventId, OwnedRoomId};
use serde::{Deserialize, Serialize};

use super::Way;

/// The most levels, children of one event, and events of an answer.
const MAX_DEPTH: usize = 30;
const MAX_BREADTH: usize = 100;
const MAX_EVENTS: usize = 100;

/// What is asked.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Question {
    /// From which event on.
    pub event_id: OwnedEventId,
    /// Its room, for a server that doesn't have the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_id: Option<OwnedRoomId>,
    /// How many levels; negative: as many as there are.
    #[serde(default = "three")]
    pub max_depth: i64,
    /// How many children of each event; negative: all.
    #[serde(default = "ten")]
    pub max_breadth: i64,
    /// How many events.
    #[serde(default = "hundred")]
    pub limit: i64,
    /// Whether children come before what is beside their parent.
    #[serde(default)]
    pub depth_first: bool,
    /// Whether newer ones come first.
    #[serde(default = "yes")]
    pub recent_first: bool,
    /// Whether the event's parent is wanted.
    #[serde(default)]
    pub include_parent: bool,
    /// Whether all children of the event are wanted.
    #[serde(default)]
    pub include_children: bool,
    /// Towards parents, or children.
    #[serde(default)]
    pub direction: Way,
    /// Where to go on: nothing that is given out here.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub batch: String,
}

fn three() -> i64 {
    3
}

fn ten() -> i64 {
    10
}

fn hundred() -> i64 {
    100
}

fn yes() -> bool {
    true
}

impl Question {
    pub(super) fn depth(&self) -> usize {
        usize::try_from(self.max_depth).map_or(MAX_DEPTH, |depth| depth.min(MAX_DEPTH))
    }

    pub(super) fn breadth(&self) -> usize {
        usize::try_from(self.max_breadth).map_or(MAX_BREADTH, |breadth| breadth.min(MAX_BREADTH))
    }

    pub(super) fn limit(&self) -> usize {
        usize::try_from(self.limit).map_or(MAX_EVENTS, |limit| limit.clamp(1, MAX_EVENTS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_bounded() {
        let read = |text: &str| serde_json::from_str::<Question>(text).unwrap();
        let usual = read(r#"{"event_id": "$a"}"#);
        assert_eq!(
            (usual.depth(), usual.breadth(), usual.limit()),
            (3, 10, 100)
        );
        assert!(usual.recent_first && !usual.depth_first);
        for extreme in [-1, i64::MIN, i64::MAX] {
            let text = format!(
                r#"{{"event_id": "$a", "max_depth": {extreme}, "max_breadth": {extreme}, "limit": {extreme}}}"#
            );
            let asked = read(&text);
            let bounds = (asked.depth(), asked.breadth(), asked.limit());
            assert_eq!(bounds, (MAX_DEPTH, MAX_BREADTH, MAX_EVENTS));
        }
        for wrong in [
            "{}",
            r#"{"event_id": "a"}"#,
            r#"{"event_id": "$a", "direction": "left"}"#,
        ] {
            assert!(serde_json::from_str::<Question>(wrong).is_err());
        }
    }
}
