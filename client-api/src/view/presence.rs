//! Presence as clients are told of it.

use rhizome_storage::PresenceStatus;

use crate::view::json::Json;

/// The content of an `m.presence`.
pub fn content(json: &mut Json, status: &PresenceStatus) {
    json.open().key("presence").string(status.state.name());
    if let Some(ago) = status.last_active_ago {
        json.key("last_active_ago").number(ago);
    }
    json.key("currently_active")
        .boolean(status.currently_active);
    if let Some(message) = &status.message {
        json.key("status_msg").string(message);
    }
    json.close();
}
