//! `[rooms]`: what is so in rooms unless people say otherwise.

use serde::Deserialize;

/// What is so in rooms unless people say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rooms {
    /// Which new rooms are encrypted although their creator doesn't ask for it.
    pub encryption_by_default: EncryptionByDefault,
    /// Whether users forget rooms as they leave them.
    pub forget_on_leave: bool,
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
