//! Leaving rooms, and rejecting invites to rooms that we aren't in
//! (<https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>).

use std::sync::Arc;

use rhizome_protocol::{Membership, Object, Pdu};
use rhizome_rooms::{
    access,
    membership::{self, Action, MembershipChange, remote_invite},
    send::SendOptions,
};
use ruma::{OwnedServerName, RoomId, UserId};

use crate::{
    Federation, MatrixError, local,
    membership::{at_server, candidates, taking_back},
};

/// How many servers are tried.
const MAX_SERVERS: usize = 3;

/// Lets a local user leave a room or reject an invite. Who is not there is done.
///
/// An invite from outside is rejected at the inviting server; if that can't be reached, or refuses, it is
/// gone here all the same.
///
/// # Errors
/// What the room has against it: banned users can't leave.
pub async fn leave(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
    reason: Option<String>,
) -> Result<(), MatrixError> {
    if access::server_in_room(fed.store(), room_id, fed.server_name()).await? {
        let change = MembershipChange {
            room_id: room_id.to_owned(),
            sender: user.to_owned(),
            target: user.to_owned(),
            action: Action::Leave,
            reason,
            extra: Object::new(),
        };
        if let Some(draft) = membership::prepare(fed.rooms(), change).await? {
            local::send(fed, draft, SendOptions::default()).await?;
        }
        return Ok(());
    }
    if let Some(invite) = candidates::invite(fed, user, room_id).await? {
        let mut servers = candidates::of_invite(fed, &invite, room_id);
        servers.truncate(MAX_SERVERS);
        let event = match reject_through(fed, servers, user, room_id, reason.clone()).await {
            Some(signed) => signed,
            None => Arc::new(remote_invite::lone_rejection(fed.rooms(), &invite, reason)?),
        };
        remote_invite::end(fed.rooms(), &event).await?;
        return Ok(());
    }
    leave_left_behind(fed, user, room_id, reason).await
}

/// Of a room that this server has left: an invite from before then is rejected, a knock taken back; leaving what was left is
/// done; leaving what never was, isn't. A join of which nothing came here is taken back where it was handed in.
async fn leave_left_behind(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
    reason: Option<String>,
) -> Result<(), MatrixError> {
    let store = fed.store();
    let had_joined = taking_back::now(fed, user, room_id, reason.clone()).await?;
    let user_no = store.known_user(user).await?;
    let room = store.known_room(room_id).await?;
    let row = match (user_no, room) {
        (Some(user), Some(room)) => store.membership(user, room).await?,
        _ => None,
    };
    let Some(row) = row else {
        if had_joined {
            return Ok(());
        }
        return Err(MatrixError::not_found(format!(
            "You are not in the room {room_id}"
        )));
    };
    if matches!(row.membership, Membership::Invite | Membership::Knock) {
        let servers = store.joined_servers(row.room).await?;
        let servers = servers.iter().take(MAX_SERVERS).cloned().collect();
        let signed = reject_through(fed, servers, user, room_id, reason).await;
        remote_invite::reject_left_behind(fed.rooms(), room_id, user, signed).await?;
    }
    Ok(())
}

/// Rejects an invite at the first of these servers that takes it; gives the leave event then.
async fn reject_through(
    fed: &Federation,
    mut servers: Vec<OwnedServerName>,
    user: &UserId,
    room_id: &RoomId,
    reason: Option<String>,
) -> Option<Arc<Pdu>> {
    servers.dedup();
    for server in servers.iter().filter(|server| *server != fed.server_name()) {
        match at_server::leave(fed, server, user, room_id, reason.clone()).await {
            Ok(event) => return Some(event),
            Err(error) => {
                tracing::info!(%server, room = %room_id, %error, "an invite can't be rejected at this server");
            }
        }
    }
    None
}
