//! What names and describes a room: a row that the commits keep which change the room's current state.
//!
//! A commit that touches an entry of [`KINDS`], or redacts or restores an event that is one, reads the entries as it
//! leaves them and writes the row ([`rows::write`]); every other does nothing for it. So the row is right after merges of
//! forks and redactions as well, and nobody else has to look at the state. A room without a row is from before there
//! were any: it gets one when it is asked for.

pub(crate) mod rows;

use std::collections::HashMap;
use std::sync::Arc;

use rhizome_protocol::{Pdu, StateKey};
use ruma::OwnedRoomId;
use serde_json::Value;

use crate::{Pos, Result, RoomNo, Store, UserNo};

/// The state, each with an empty state key, that summaries are made of.
pub(crate) const KINDS: [&str; 10] = [
    "m.room.create",
    "m.room.name",
    "m.room.topic",
    "m.room.avatar",
    "m.room.canonical_alias",
    "m.room.encryption",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.tombstone",
];

/// The most bytes of what is an identifier, or one of a few words (appendices, "Common Namespaced Identifier Grammar"
/// and "Common identifier format").
pub(crate) const LONGEST_ID: usize = 255;

/// Events that move a room up in lists (`bump_stamp` of MSC4186).
const ACTIVITY: [&str; 8] = [
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.room.create",
    "m.call.invite",
    "m.poll.start",
    "org.matrix.msc3381.poll.start",
    "m.beacon_info",
];

/// Whether summaries are made of this entry of a state.
pub(crate) fn is_of_summary(key: &StateKey) -> bool {
    key.key.is_empty() && KINDS.contains(&key.kind.as_str())
}

/// The same of an event.
pub(crate) fn is_summarised(event: &Pdu) -> bool {
    event.state_key() == Some("") && KINDS.contains(&event.kind())
}

/// Whether an event of this type counts as activity.
pub fn is_activity(kind: &str) -> bool {
    ACTIVITY.contains(&kind)
}

/// What a room's current state says of it. What it doesn't say, says as something that it can't be, or says as an empty
/// text, is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSummary {
    /// The name of `m.room.name`.
    pub name: Option<String>,
    /// The topic, as plain text.
    pub topic: Option<String>,
    /// The `mxc://` address of the avatar.
    pub avatar: Option<String>,
    /// The canonical alias.
    pub alias: Option<String>,
    /// The type of the room: `m.space`, or `None` of an ordinary one.
    pub room_type: Option<String>,
    /// Whether users of other servers may be in it.
    pub federate: bool,
    /// The algorithm of the encryption.
    pub encryption: Option<String>,
    /// The join rule; without one it is `invite`.
    pub join_rule: Option<String>,
    /// The rooms whose members may join, where the join rule is restricted.
    pub allowed: Vec<OwnedRoomId>,
    /// The history visibility; without one it is `shared`.
    pub history_visibility: Option<String>,
    /// The guest access; without one it is `forbidden`.
    pub guest_access: Option<String>,
    /// The room that came after it.
    pub replacement: Option<String>,
}

impl Default for RoomSummary {
    fn default() -> Self {
        Self {
            name: None,
            topic: None,
            avatar: None,
            alias: None,
            room_type: None,
            federate: true,
            encryption: None,
            join_rule: None,
            allowed: Vec::new(),
            history_visibility: None,
            guest_access: None,
            replacement: None,
        }
    }
}

impl RoomSummary {
    /// Whether a name or an alias stands for the room. Otherwise its members do.
    pub fn is_named(&self) -> bool {
        self.name.is_some() || self.alias.is_some()
    }

    /// What one of the entries says.
    fn take(&mut self, event: &Pdu) {
        let content = event.content();
        let text = |field: &str| {
            let text = content.get(field)?.as_str()?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        let id = |field: &str| text(field).filter(|text| text.len() <= LONGEST_ID);
        match event.kind() {
            "m.room.create" => {
                self.room_type = id("type");
                self.federate = content.get("m.federate").and_then(Value::as_bool) != Some(false);
            }
            "m.room.name" => self.name = text("name"),
            "m.room.topic" => self.topic = text("topic"),
            "m.room.avatar" => self.avatar = text("url"),
            "m.room.canonical_alias" => self.alias = id("alias"),
            "m.room.encryption" => self.encryption = id("algorithm"),
            "m.room.join_rules" => {
                self.join_rule = id("join_rule");
                self.allowed = allowed(event);
            }
            "m.room.history_visibility" => self.history_visibility = id("history_visibility"),
            "m.room.guest_access" => self.guest_access = id("guest_access"),
            "m.room.tombstone" => self.replacement = id("replacement_room"),
            _ => {}
        }
    }

    /// How many units of a kibibyte it takes in a cache.
    fn weight(&self) -> usize {
        let texts = [
            &self.name,
            &self.topic,
            &self.avatar,
            &self.alias,
            &self.room_type,
            &self.encryption,
            &self.join_rule,
            &self.history_visibility,
            &self.guest_access,
            &self.replacement,
        ];
        let texts = texts.into_iter().flatten().map(String::len);
        let pointer = size_of::<OwnedRoomId>();
        let allowed = self
            .allowed
            .iter()
            .map(|room| pointer + room.as_str().len());
        1 + texts.chain(allowed).sum::<usize>() / 1_024
    }
}

/// The rooms whose members a join rule lets in.
fn allowed(event: &Pdu) -> Vec<OwnedRoomId> {
    let conditions = event.content().get("allow").and_then(Value::as_array);
    let conditions = conditions.into_iter().flatten();
    let rooms = conditions.filter_map(|condition| {
        let of = |field: &str| condition.get(field)?.as_str();
        if of("type") != Some("m.room_membership") {
            return None;
        }
        OwnedRoomId::try_from(of("room_id")?).ok()
    });
    rooms.collect()
}

impl Store {
    /// What names and describes a room, now. Nothing does if we have never been in it.
    pub async fn room_summary(&self, room: RoomNo) -> Result<Arc<RoomSummary>> {
        let mut found = self.room_summaries(&[room]).await?;
        Ok(found.remove(&room).unwrap_or_default())
    }

    /// The same of many rooms, without those that we have never been in.
    pub async fn room_summaries(
        &self,
        rooms: &[RoomNo],
    ) -> Result<HashMap<RoomNo, Arc<RoomSummary>>> {
        let cache = &self.core.caches.summaries;
        let mut found = HashMap::with_capacity(rooms.len());
        let mut left = Vec::new();
        for room in rooms {
            match cache.get(room) {
                Some(summary) => drop(found.insert(*room, summary)),
                None => left.push(*room),
            }
        }
        if left.is_empty() {
            return Ok(found);
        }
        let moment = cache.moment();
        for (room, summary) in self.stored_summaries(&left).await? {
            let (summary, weight) = (Arc::new(summary.clone()), summary.weight());
            cache.insert_since(moment, room, summary.clone(), weight);
            found.insert(room, summary);
        }
        Ok(found)
    }

    /// The rooms that a user is in or was in and hasn't forgotten, those with the latest activity first: the position
    /// of the last that happened there, and that of the last event which counts as activity (`bump_stamp` of MSC4186).
    /// For who isn't joined both are where their membership became what it is.
    pub async fn rooms_by_activity(&self, user: UserNo) -> Result<Vec<(RoomNo, Pos, Pos)>> {
        rows::by_activity(self, user).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_strangers_write_weighs() {
        assert_eq!(RoomSummary::default().weight(), 1);
        let text = || Some("x".repeat(1_024));
        let summary = RoomSummary {
            name: text(),
            topic: text(),
            avatar: text(),
            alias: text(),
            room_type: text(),
            federate: true,
            encryption: text(),
            join_rule: text(),
            allowed: Vec::new(),
            history_visibility: text(),
            guest_access: text(),
            replacement: text(),
        };
        assert_eq!(summary.weight(), 11);
        let room = format!("!{}:x", "r".repeat(252));
        let allowed = vec![OwnedRoomId::try_from(room).unwrap(); 40];
        let summary = RoomSummary {
            allowed,
            ..RoomSummary::default()
        };
        assert!(summary.weight() >= 10);
    }
}
