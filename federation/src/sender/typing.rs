//! Typing of our users, told to the other servers of the room
//! (<https://spec.matrix.org/v1.19/server-server-api/#typing-notifications>).

use ruma::{RoomId, UserId};

use crate::Federation;

/// Tells the room's other servers that a user of ours types, or has stopped. Best effort: what can't be
/// told now is not worth telling later.
pub async fn local(fed: &Federation, room_id: &RoomId, user: &UserId, typing: bool) {
    let servers = async {
        let Some(head) = fed.store().room(room_id).await? else {
            return Ok(None);
        };
        fed.store().joined_servers(head.room).await.map(Some)
    };
    match servers.await {
        Ok(Some(servers)) => {
            let others = servers
                .iter()
                .map(AsRef::as_ref)
                .filter(|server| *server != fed.server_name());
            fed.sender().typing(others, room_id, user, typing);
        }
        Ok(None) => {}
        Err(error) => {
            let error: rhizome_storage::Error = error;
            tracing::warn!(%error, room = %room_id, "typing isn't sent");
        }
    }
}
