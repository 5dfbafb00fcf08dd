//! `[rooms]`: what is so in rooms unless people say otherwise.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
