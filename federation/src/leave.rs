//! Leaving rooms, and rejecting invites to rooms that we aren't in
//! (<https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>).

use std::time::Duration;

use rhizome_protocol::{Membership, Object};
use rhizome_rooms::{
    join as admission,
    membership::{self, Action, Change},
    read,
    send::SendOptions,
};
use ruma::{RoomId, ServerName, UserId, api::federation::membership::prepare_leave_event};

use crate::{Federation, MatrixError, handshake, join, local};

/// The time limit of one step with the other server: the user waits.
const STEP_TIME: Duration = Duration::from_secs(8);

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
    if read::server_in_room(fed.rooms(), room_id, fed.server_name()).await? {
        let change = Change {
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
    let Some(inviter) = join::inviter(fed, user, room_id).await? else {
        return not_there(fed, user, room_id).await;
    };
    if let Err(error) = reject(fed, inviter.server_name(), user, room_id, reason).await {
        tracing::info!(server = %inviter.server_name(), room = %room_id, %error, "an invite is rejected here only");
    }
    admission::remote_invite_gone(fed.rooms(), room_id, user).await?;
    Ok(())
}

/// Leaving what was left is done; leaving what never was, isn't.
async fn not_there(fed: &Federation, user: &UserId, room_id: &RoomId) -> Result<(), MatrixError> {
    if let (Some(user), Some(room)) = (
        fed.store().known_user(user).await?,
        fed.store().known_room(room_id).await?,
    ) && fed.store().membership(user, room).await?.is_some()
    {
        return Ok(());
    }
    Err(MatrixError::not_found(format!(
        "You are not in the room {room_id}"
    )))
}

async fn reject(
    fed: &Federation,
    server: &ServerName,
    user: &UserId,
    room_id: &RoomId,
    reason: Option<String>,
) -> Result<(), MatrixError> {
    let request = prepare_leave_event::v1::Request::new(room_id.to_owned(), user.to_owned());
    let template = fed
        .outbound()
        .send_limited(server, request, handshake::step(STEP_TIME))
        .await?;
    let rules = handshake::rules_of(template.room_version.as_ref())?;
    let mut content = Object::new();
    if let Some(reason) = reason {
        content.insert("reason".to_owned(), reason.into());
    }
    let event = handshake::finish(
        fed,
        rules,
        &template.event,
        room_id,
        user,
        Membership::Leave,
        content,
    )?;
    handshake::submit(
        fed,
        server,
        "send_leave",
        &event,
        handshake::step(STEP_TIME),
    )
    .await?;
    Ok(())
}
