//! Asking to be let into rooms, through other servers where we aren't in the room ourselves
//! (<https://spec.matrix.org/v1.19/server-server-api/#knocking-rooms>).
//!
//! As for a join: a template (`make_knock`) is signed and handed in (`send_knock`). The answer's state tells
//! the user what the room is; the knock is kept with it until an invite or a refusal comes.

use std::time::Duration;

use rhizome_protocol::{Membership, Object, RoomRules};
use rhizome_rooms::{
    access,
    membership::{self, Action, MembershipChange, remote_invite},
    send::SendOptions,
};
use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, RoomOrAliasId, ServerName, UserId,
    api::federation::membership::prepare_knock_event,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::{
    Federation, MatrixError,
    handshake::{self, stripped},
    local,
    membership::{
        candidates::{Refusal, candidates},
        join, joining,
    },
    outbound::{OutboundError, answer},
    partial,
};

/// The time limit of one step with the other server: the user waits.
const STEP_TIME: Duration = Duration::from_secs(20);
/// The same of all servers together.
const TIME: Duration = Duration::from_mins(1);

/// Knocks on a room for a local user. `content` is what the member event says besides the membership.
///
/// # Errors
/// What the room, or the last of the servers, has against it; 404 if there is nobody to ask.
pub async fn knock(
    fed: &Federation,
    user: &UserId,
    target: &RoomOrAliasId,
    via: &[OwnedServerName],
    content: Object,
) -> Result<OwnedRoomId, MatrixError> {
    let (room_id, via) = join::resolve(fed, target, via).await?;
    membership::require_open(fed.store(), &room_id).await?;
    if as_resident(fed, user, &room_id, &content).await? {
        return Ok(room_id);
    }
    let until = Instant::now() + TIME;
    let mut refusal = Refusal::default();
    for server in candidates(fed, user, &room_id, via).await? {
        match through(fed, &server, user, &room_id, &content, until).await {
            Ok(()) => return Ok(room_id),
            Err(error) => refusal.add(&server, &room_id, error),
        }
        if Instant::now() >= until {
            break;
        }
    }
    Err(refusal.into_error())
}

/// Knocks by a local event, if we are in the room.
async fn as_resident(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
    content: &Object,
) -> Result<bool, MatrixError> {
    if !access::server_in_room(fed.store(), room_id, fed.server_name()).await? {
        return Ok(false);
    }
    if partial::is_unknown(fed, room_id, user).await? {
        return Ok(false);
    }
    let change = MembershipChange {
        room_id: room_id.to_owned(),
        sender: user.to_owned(),
        target: user.to_owned(),
        action: Action::Knock,
        reason: None,
        extra: content.clone(),
    };
    if let Some(draft) = membership::prepare(fed.rooms(), change).await? {
        local::send(fed, draft, SendOptions::default()).await?;
    }
    Ok(true)
}

async fn through(
    fed: &Federation,
    server: &ServerName,
    user: &UserId,
    room_id: &RoomId,
    content: &Object,
    until: Instant,
) -> Result<(), MatrixError> {
    /// What of a `send_knock` answer matters.
    #[derive(Deserialize)]
    struct Taken {
        #[serde(default)]
        knock_room_state: Vec<Box<RawValue>>,
    }
    let mut request = prepare_knock_event::v1::Request::new(room_id.to_owned(), user.to_owned());
    request.ver = RoomRules::known()
        .filter(|rules| rules.auth.knock)
        .map(|rules| rules.version.clone())
        .collect();
    let limits = handshake::step(joining::time_left(until, STEP_TIME), answer::TEMPLATE);
    let template = fed.outbound().send_limited(server, request, limits).await?;
    let rules = handshake::rules_of(Some(&template.room_version))?;
    let event = handshake::finish(
        fed,
        rules,
        &template.event,
        room_id,
        user,
        Membership::Knock,
        content.clone(),
    )?;
    // Nobody of ours joins the room meanwhile: what is kept of a knock is for rooms that we aren't in.
    let _only = joining::turn(fed, room_id, until).await?;
    if as_resident(fed, user, room_id, content).await? {
        return Ok(());
    }
    let limits = handshake::step(joining::time_left(until, STEP_TIME), answer::STRIPPED);
    let answer = handshake::put(fed, server, "v1/send_knock", &event, limits).await?;
    let answer: Taken = serde_json::from_slice(&answer)
        .map_err(|error| OutboundError::Answer(error.to_string()))?;
    // The room has the knock now, whatever the state beside it is worth.
    let state = stripped::for_users(fed, rules, room_id, None, &answer.knock_room_state).await;
    let state = state.unwrap_or_else(|error| {
        tracing::info!(%server, room = %room_id, %error, "the state that came with a knock is unusable");
        "[]".to_owned()
    });
    remote_invite::keep(fed.rooms(), &event, state.into()).await?;
    Ok(())
}
