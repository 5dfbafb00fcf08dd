//! `[server_notices]`: what the operator tells users.

use rhizome_client_api::users;
use ruma::{OwnedUserId, ServerName};
use serde::Deserialize;

use super::Problems;

/// What the operator tells users.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerNotices {
    /// The name of the user who speaks, before the colon. Without it there are no notices.
    pub localpart: Option<String>,
    /// What they are shown as.
    pub display_name: Option<String>,
    /// Their picture and the rooms', an mxc:// address.
    pub avatar_url: Option<String>,
    /// What the rooms are called.
    pub room_name: String,
}

impl Default for ServerNotices {
    fn default() -> Self {
        Self {
            localpart: None,
            display_name: None,
            avatar_url: None,
            room_name: "Server notices".to_owned(),
        }
    }
}

impl ServerNotices {
    /// Who speaks.
    pub fn user(&self, server: &ServerName) -> Option<OwnedUserId> {
        users::user_id(server, self.localpart.as_deref()?).ok()
    }

    pub(super) fn check(&self, server: &ServerName, problems: &mut Problems) {
        if let Some(localpart) = &self.localpart
            && self.user(server).is_none()
        {
            problems.add(
                "server_notices.localpart",
                format!("`{localpart}` can't be a user's name"),
                "use a-z, 0-9 and ._=-/+, such as \"server\", and a name that no user has",
            );
        }
        if let Some(url) = &self.avatar_url
            && !url.starts_with("mxc://")
        {
            problems.add(
                "server_notices.avatar_url",
                format!("`{url}` is no mxc:// address"),
                "upload the picture with a client, and write its mxc:// address",
            );
        }
    }
}
