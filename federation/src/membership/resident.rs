//! Joining a room that this server is in already.

use std::{borrow::Cow, time::Duration};

use http::StatusCode;
use rhizome_protocol::{Membership, Object, draft::Draft};
use rhizome_rooms::{
    membership::{self, restricted},
    send::SendOptions,
};
use ruma::{OwnedUserId, RoomId, UserId};
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    Federation, MatrixError, local,
    membership::candidates::{invite, is_unable},
    partial,
};

/// How long somebody waits for their invite to be decided.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long at least between two looks at it.
const PAUSE: Duration = Duration::from_millis(100);
/// How many events of one origin, and of all, are looked at in a room's inbox.
const LOOKED_AT: (usize, usize) = (50, 200);

/// Joins by a local event of a room that we are in, if one of our users can let this one in; `false`: another server may.
///
/// Who is invited by an event that waits in the inbox for what it stands on waits for it, too.
pub(super) async fn join(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
    content: &Object,
) -> Result<bool, MatrixError> {
    if partial::is_unknown(fed, room_id, user).await? {
        // Whoever knows the members knows whether this one is banned.
        return Ok(false);
    }
    let until = Instant::now() + PATIENCE;
    let mut log = fed.store().log().subscribe();
    let mut invited = false;
    loop {
        let error = match join_locally(fed, user, room_id, content.clone()).await {
            Ok(()) => return Ok(true),
            // None of our users may let this one in; another server's may.
            Err(error) if is_unable(&error) => return Ok(false),
            Err(error) if error.status != StatusCode::FORBIDDEN => return Err(error),
            Err(error) => error,
        };
        // From before we came in: whoever has invited knows of it.
        if invite(fed, user, room_id).await?.is_some() {
            return Ok(false);
        }
        if invite_waits(fed, user, room_id).await? {
            let changed = tokio::time::timeout_at(until, log.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Err(error);
            }
            // Mostly it is about something else.
            tokio::time::sleep(PAUSE).await;
        } else if invited || !is_invited(fed, user, room_id).await? {
            return Err(error);
        } else {
            // It was decided just now.
            invited = true;
        }
    }
}

async fn is_invited(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
) -> Result<bool, MatrixError> {
    let membership = membership::current(fed.rooms(), room_id, user).await?;
    Ok(membership == Some(Membership::Invite))
}

/// Whether an invite by a server that is in the room waits in the inbox.
async fn invite_waits(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
) -> Result<bool, MatrixError> {
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
        return Ok(false);
    };
    let servers = fed.store().joined_servers(head.room).await?;
    Ok(servers.contains(&invite.origin))
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
