//! A leave that is handed in at another server: `make_leave`, then `send_leave`.

use std::{sync::Arc, time::Duration};

use rhizome_protocol::{Membership, Object, Pdu};
use ruma::{RoomId, ServerName, UserId, api::federation::membership::prepare_leave_event};
use serde::de::IgnoredAny;

use crate::{
    Federation, MatrixError, handshake,
    outbound::{OutboundError, answer},
};

/// The time limit of one step with the other server: the user waits.
const STEP_TIME: Duration = Duration::from_secs(8);

/// Takes a user's join, invite or knock back at a server; gives the leave event.
pub(super) async fn leave(
    fed: &Federation,
    server: &ServerName,
    user: &UserId,
    room_id: &RoomId,
    reason: Option<String>,
) -> Result<Arc<Pdu>, MatrixError> {
    let request = prepare_leave_event::v1::Request::new(room_id.to_owned(), user.to_owned());
    let limits = handshake::step(STEP_TIME, answer::TEMPLATE);
    let template = fed.outbound().send_limited(server, request, limits).await?;
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
    let limits = handshake::step(STEP_TIME, answer::NOTHING);
    let answer = handshake::send_leave(fed, server, &event, limits).await?;
    serde_json::from_slice::<IgnoredAny>(&answer)
        .map_err(|error| OutboundError::Answer(error.to_string()))?;
    Ok(event)
}
