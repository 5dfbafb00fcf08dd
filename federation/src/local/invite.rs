//! Inviting users of other servers: their server signs the event before the room gets it
//! (<https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>).

use std::{sync::Arc, time::Duration};

use rhizome_protocol::{Membership, Pdu, canonical, draft::Draft, rules::EventIdFormat};
use rhizome_rooms::{
    admit as admission,
    send::{self, Sent},
};
use ruma::{
    OwnedUserId, ServerName, UserId,
    api::federation::membership::{RawStrippedState, create_invite},
};
use serde_json::{Value, value::RawValue};

use crate::{
    Federation, MatrixError,
    handshake::{self, stripped},
    outbound::{OutboundError, answer, refusal},
};

/// The time limit of the other server: the inviting user waits.
const TIME: Duration = Duration::from_secs(30);

/// The user of another server whom the draft invites, if that is what it does.
pub(super) fn remote_target(fed: &Federation, draft: &Draft) -> Option<OwnedUserId> {
    if draft.kind != "m.room.member"
        || draft.content.get("membership").and_then(Value::as_str)
            != Some(Membership::Invite.as_str())
    {
        return None;
    }
    let target = OwnedUserId::try_from(draft.state_key.as_deref()?).ok()?;
    (target.server_name() != fed.server_name()).then_some(target)
}

/// Invites `target`: signed here, then there, then admitted as it is.
///
/// # Errors
/// What the room or the other server has against it; 502 if that server can't be reached.
pub(super) async fn send(
    fed: &Federation,
    draft: &Draft,
    target: &UserId,
) -> Result<Sent, MatrixError> {
    let ours = send::prepare(fed.rooms(), draft).await?;
    let server = target.server_name();
    let stripped = stripped::for_servers(fed, ours.room_id(), Some(ours.sender())).await?;
    let theirs = ask(fed, server, &ours, stripped)
        .await
        .map_err(for_the_inviter)?;
    let signed = with_signature(&ours, &theirs, server)?;
    let admitted = admission::admit_signed(fed.rooms(), Arc::new(signed)).await?;
    Ok(Sent {
        event_id: admitted.pdu.event_id().to_owned(),
        fresh: true,
    })
}

/// The other server's copy of the event, v2 first.
async fn ask(
    fed: &Federation,
    server: &ServerName,
    ours: &Pdu,
    stripped: Vec<Box<RawValue>>,
) -> Result<Box<RawValue>, OutboundError> {
    let unusable = |error: serde_json::Error| OutboundError::Request(error.to_string());
    let event = RawValue::from_string(ours.json().to_string()).map_err(unusable)?;
    let request = create_invite::v2::Request::new(
        ours.room_id().to_owned(),
        ours.event_id().to_owned(),
        ours.rules().version.clone(),
        event,
        stripped.into_iter().map(RawStrippedState::Pdu).collect(),
    );
    match fed
        .outbound()
        .send_limited(server, request, handshake::step(TIME, answer::EVENT))
        .await
    {
        Ok(answer) => Ok(answer.event),
        // Old servers know v1 only; it can only be about rooms of versions 1 and 2.
        Err(error)
            if ours.rules().format.event_id == EventIdFormat::Explicit
                && handshake::lacks_endpoint(&error) =>
        {
            handshake::invite_v1(fed, server, ours, handshake::step(TIME, answer::EVENT)).await
        }
        Err(error) => Err(error),
    }
}

/// What the inviting user is told. Faults of ours in the other server's eyes aren't the user's.
fn for_the_inviter(error: OutboundError) -> MatrixError {
    match error {
        OutboundError::Remote(error) if error.errcode != "M_INVALID_PARAM" => {
            refusal::for_client(error)
        }
        other => MatrixError::bad_gateway(format!("The invited user's server: {other}")),
    }
}

/// Our event with the other server's signature. Nothing else of its copy is taken.
fn with_signature(ours: &Pdu, theirs: &RawValue, server: &ServerName) -> Result<Pdu, MatrixError> {
    let unusable = || MatrixError::bad_gateway("The invited user's server gave back another event");
    let theirs = canonical::parse_object(theirs.get().as_bytes()).map_err(|_| unusable())?;
    let signature = theirs
        .get("signatures")
        .and_then(|signatures| signatures.get(server.as_str()))
        .filter(|of_server| of_server.as_object().is_some_and(|keys| !keys.is_empty()))
        .cloned()
        .ok_or_else(|| {
            MatrixError::bad_gateway("The invited user's server didn't sign the invite")
        })?;
    let given = Pdu::parse(ours.rules(), theirs).map_err(|_| unusable())?;
    if given.event_id() != ours.event_id() {
        return Err(unusable());
    }
    let mut event =
        canonical::parse_object(ours.json().as_bytes()).map_err(|_| MatrixError::internal())?;
    if let Some(signatures) = event.get_mut("signatures").and_then(Value::as_object_mut) {
        signatures.insert(server.to_string(), signature);
    }
    Pdu::parse(ours.rules(), event)
        .map_err(|rejection| MatrixError::bad_gateway(rejection.to_string()))
}
