//! `[user_directory]`: who is found by a search for people.

use serde::Deserialize;

/// Who is found by a search for people.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserDirectory {
    /// Who is found.
    pub visible: VisibleUsers,
}

/// Who is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VisibleUsers {
    /// Who shares a room with whoever searches, or is in a room that anybody may look into.
    #[default]
    Known,
    /// These, and all users of this server.
    AllLocal,
}
