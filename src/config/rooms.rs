//! `[rooms]`: what is so in rooms unless people say otherwise.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Problems;

/// What is so in rooms unless people say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rooms {
    /// Which new rooms are encrypted although their creator doesn't ask for it.
    pub encryption_by_default: EncryptionByDefault,
    /// Whether users forget rooms as they leave them.
    pub forget_on_leave: bool,
    /// What is so in new rooms of this preset.
    pub private_chat: RoomPolicy,
    /// What is so in new rooms of this preset.
    pub trusted_private_chat: RoomPolicy,
    /// What is so in new rooms of this preset.
    pub public_chat: RoomPolicy,
}

/// What is so in new rooms of a preset.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoomPolicy {
    /// Who may join.
    pub join_rule: Option<Entrance>,
    /// What differs from the preset's.
    pub power_levels: PowerLevels,
}

impl Rooms {
    pub(super) fn check(&self, problems: &mut Problems) {
        for (preset, policy) in [
            ("private_chat", &self.private_chat),
            ("trusted_private_chat", &self.trusted_private_chat),
            ("public_chat", &self.public_chat),
        ] {
            for (what, level) in policy.power_levels.too_high() {
                problems.add(
                    format!("rooms.{preset}.power_levels"),
                    format!("{what} is {level}: who creates a room has {MOST}, and couldn't"),
                    format!("write {MOST} or less"),
                );
            }
        }
    }
}

/// What who creates a room has, in versions in which that is a number.
const MOST: i32 = 100;
/// What a new room begins with after its power levels.
const SENT: [&str; 7] = [
    "m.room.canonical_alias",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.encryption",
    "m.room.name",
    "m.room.topic",
];

impl PowerLevels {
    /// What would keep who creates a room from what it begins with.
    fn too_high(&self) -> Vec<(String, i32)> {
        let mut found = Vec::new();
        for (what, level) in [
            ("state_default", self.state_default),
            ("invite", self.invite),
        ] {
            found.extend(level.map(|level| (what.to_owned(), level)));
        }
        for kind in SENT {
            let level = self.events.get(kind);
            found.extend(level.map(|level| (format!("events.{kind}"), *level)));
        }
        found.retain(|(_, level)| *level > MOST);
        found
    }
}

/// Who may join a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entrance {
    /// Anyone.
    Public,
    /// Who is invited.
    Invite,
    /// The same; others may ask to be.
    Knock,
}

/// Levels of power that differ from a preset's, in the names of `m.room.power_levels`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PowerLevels {
    #[serde(skip_serializing_if = "Option::is_none")]
    users_default: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events_default: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_default: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ban: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kick: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redact: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invite: Option<i32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    events: BTreeMap<String, i32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    notifications: BTreeMap<String, i32>,
}

/// Which new rooms are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncryptionByDefault {
    /// Those whose creator wants it.
    #[default]
    Off,
    /// All that people come into by invitation.
    Invite,
    /// All.
    All,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_creates_a_room_can_send_what_it_begins_with() {
        let wrong = |text: &str| {
            let rooms: Rooms = toml::from_str(text).unwrap();
            let mut problems = Problems(Vec::new());
            rooms.check(&mut problems);
            problems
                .0
                .into_iter()
                .map(|(place, what, _)| (place, what))
                .collect::<Vec<_>>()
        };
        let found =
            wrong("private_chat = { power_levels = { events = { \"m.room.name\" = 101 } } }");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "rooms.private_chat.power_levels");
        assert!(found[0].1.starts_with("events.m.room.name is 101"));
        assert_eq!(
            wrong("public_chat = { power_levels = { state_default = 101, invite = 101 } }").len(),
            2
        );
        let fine = "public_chat = { power_levels = { ban = 101, state_default = 100, events = { \"org.x\" = 101 } } }";
        assert!(wrong(fine).is_empty());
    }
}
