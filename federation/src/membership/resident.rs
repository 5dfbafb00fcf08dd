//! Joining a room that this server is in already.

use std::borrow::Cow;

use http::StatusCode;
use rhizome_protocol::{Membership, Object, draft::Draft};
use rhizome_rooms::{
    membership::{self, restricted},
    send::SendOptions,
};
use ruma::{OwnedServerName, OwnedUserId, RoomId, UserId};
use serde::Deserialize;

use crate::{
    Federation, MatrixError, local,
    membership::candidates::{invite, is_unable},
};

/// How many events of one origin, and of all, are looked at in a room's inbox.
const LOOKED_AT: (usize, usize) = (50, 200);

/// What became of a join in a room that we are in.
pub(super) enum Outcome {
    Joined,
    /// Another server may let the user in: this one, if it is known who.
    Elsewhere(Option<OwnedServerName>),
}

/// Joins by a local event of a room that we are in, if one of our users can let this one in.
pub(super) async fn join(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
    content: &Object,
) -> Result<Outcome, MatrixError> {
    match join_locally(fed, user, room_id, content.clone()).await {
        // None of our users may let this one in; another server's may.
        Err(error) if is_unable(&error) => Ok(Outcome::Elsewhere(None)),
        // They may be invited, and what the invite stands on hasn't come yet: whoever has invited them knows of it.
        Err(error) if error.status == StatusCode::FORBIDDEN => {
            let invited = invited_by(fed, user, room_id).await?;
            invited.map_or(Err(error), |server| Ok(Outcome::Elsewhere(Some(server))))
        }
        done => done.map(|()| Outcome::Joined),
    }
}

/// Whose invite isn't part of the room as we know it: one from before we came in, or one that waits in the inbox.
async fn invited_by(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
) -> Result<Option<OwnedServerName>, MatrixError> {
    if let Some(invite) = invite(fed, user, room_id).await? {
        return Ok(Some(invite.sender.server_name().to_owned()));
    }
    let (of_one, of_all) = LOOKED_AT;
    let waiting = fed.store().inbox_waiting(room_id, i64::MIN, of_one, of_all);
    let invite = waiting.await?.into_iter().find(|waiting| {
        let event: Option<Invite<'_>> = serde_json::from_str(&waiting.event).ok();
        event.is_some_and(|event| {
            event.kind == "m.room.member"
                && event.state_key.as_deref() == Some(user.as_str())
                && event.content.membership == "invite"
                && event.sender.server_name() == waiting.origin
        })
    });
    let Some((invite, head)) = invite.zip(fed.store().room(room_id).await?) else {
        return Ok(None);
    };
    // Strangers aren't told who wants to come in.
    let servers = fed.store().joined_servers(head.room).await?;
    let is_member = servers.contains(&invite.origin);
    Ok(is_member.then_some(invite.origin))
}

/// What is looked at of an event that may be an invite.
#[derive(Deserialize)]
struct Invite<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    sender: OwnedUserId,
    #[serde(borrow)]
    state_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: InviteContent<'a>,
}

#[derive(Deserialize)]
struct InviteContent<'a> {
    #[serde(borrow)]
    membership: Cow<'a, str>,
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
