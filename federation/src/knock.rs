//! Asking to be let into rooms, through other servers where we aren't in the room ourselves
//! (<https://spec.matrix.org/v1.19/server-server-api/#knocking-rooms>).
//!
//! As for a join: a template (`make_knock`) is signed and handed in (`send_knock`). The answer's state tells
//! the user what the room is; the knock is kept with it until an invite or a refusal comes.

use std::time::Duration;

use rhizome_protocol::{Membership, Object, RoomRules};
use rhizome_rooms::{
    membership::{self, Action, Change},
    read, remote_invite,
    send::SendOptions,
};
use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, RoomOrAliasId, ServerName, UserId,
    api::federation::membership::prepare_knock_event,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Federation, MatrixError, client::OutboundError, handshake, inbound::stripped, join, local,
};

/// The time limit of one step with the other server: the user waits.
const STEP_TIME: Duration = Duration::from_secs(20);

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
    let _only = fed.inbound().joins.lock(room_id.clone()).await;
    if read::server_in_room(fed.rooms(), &room_id, fed.server_name()).await? {
        let change = Change {
            room_id: room_id.clone(),
            sender: user.to_owned(),
            target: user.to_owned(),
            action: Action::Knock,
            reason: None,
            extra: content,
        };
        if let Some(draft) = membership::prepare(fed.rooms(), change).await? {
            local::send(fed, draft, SendOptions::default()).await?;
        }
        return Ok(room_id);
    }
    let mut refusal = join::Refusal::default();
    for server in join::candidates(fed, user, &room_id, via).await? {
        match through(fed, &server, user, &room_id, &content).await {
            Ok(()) => return Ok(room_id),
            Err(error) => refusal.add(&server, &room_id, error),
        }
    }
    Err(refusal.into_error())
}

async fn through(
    fed: &Federation,
    server: &ServerName,
    user: &UserId,
    room_id: &RoomId,
    content: &Object,
) -> Result<(), MatrixError> {
    /// What of a `send_knock` answer matters.
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        knock_room_state: Vec<Box<RawValue>>,
    }
    let mut request = prepare_knock_event::v1::Request::new(room_id.to_owned(), user.to_owned());
    request.ver = RoomRules::supported()
        .filter(|rules| rules.auth.knock)
        .map(|rules| rules.version.clone())
        .collect();
    let template = fed
        .outbound()
        .send_limited(server, request, handshake::step(STEP_TIME))
        .await?;
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
    let limits = handshake::step(STEP_TIME);
    let answer = handshake::put(fed, server, "v1/send_knock", &event, limits).await?;
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|error| OutboundError::Answer(error.to_string()))?;
    // The room has the knock now, whatever the state beside it is worth.
    let state = stripped::for_users(fed, rules, room_id, &answer.knock_room_state).await;
    let state = state.unwrap_or_else(|error| {
        tracing::info!(%server, room = %room_id, %error, "the state that came with a knock is unusable");
        "[]".to_owned()
    });
    remote_invite::keep(fed.rooms(), &event, state.into()).await?;
    Ok(())
}
