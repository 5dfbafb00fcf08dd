//! Joining a room that this server is in already.

use http::StatusCode;
use rhizome_protocol::{Membership, Object, draft::Draft};
use rhizome_rooms::{
    membership::{self, restricted},
    send::SendOptions,
};
use ruma::{RoomId, UserId};

use crate::{Federation, MatrixError, local, membership::candidates::is_unable};

/// Joins by a local event of a room that we are in, if one of our users can let this one in.
pub(super) async fn join(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
    content: &Object,
) -> Result<bool, MatrixError> {
    match join_locally(fed, user, room_id, content.clone()).await {
        // None of our users may let this one in; another server's may.
        Err(error) if is_unable(&error) => Ok(false),
        // They are invited, but what the invite stands on hasn't come yet: whoever has invited them knows of it.
        Err(error)
            if error.status == StatusCode::FORBIDDEN && is_invited(fed, user, room_id).await? =>
        {
            Ok(false)
        }
        done => done.map(|()| true),
    }
}

/// Whether there is an invite that isn't part of the room as we know it.
async fn is_invited(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
) -> Result<bool, MatrixError> {
    let store = fed.store();
    let known = (
        store.known_user(user).await?,
        store.known_room(room_id).await?,
    );
    let (Some(user), Some(room)) = known else {
        return Ok(false);
    };
    Ok(store.remote_invite(user, room).await?.is_some())
}

async fn join_locally(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
    content: Object,
) -> Result<(), MatrixError> {
    if membership::current(fed.rooms(), room_id, user).await? == Some(Membership::Join) {
        return Ok(());
    }
    let mut content = content;
    content.insert("membership".to_owned(), Membership::Join.as_str().into());
    if let Some(head) = fed.store().room(room_id).await?
        && let Some(by) = restricted::authoriser(fed.rooms(), &head, user).await?
    {
        content.insert(restricted::AUTHORISED_VIA.to_owned(), by.as_str().into());
    }
    let draft = Draft {
        room_id: Some(room_id.to_owned()),
        sender: user.to_owned(),
        kind: "m.room.member".to_owned(),
        state_key: Some(user.to_string()),
        content,
        redacts: None,
    };
    local::send(fed, draft, SendOptions::default()).await?;
    Ok(())
}
