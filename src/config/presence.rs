//! `[presence]`: who is there.

use serde::Deserialize;

/// Who is there.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Presence {
    /// Whether users see who is there.
    pub enabled: bool,
    /// In rooms with more members nobody sees it of others.
    pub max_room_size: usize,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            enabled: true,
            max_room_size: 500,
        }
    }
}
