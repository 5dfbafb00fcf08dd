//! What `send_join` and `send_leave` share: another server hands us its user's signed membership event,
//! made from a template of ours.

use std::sync::Arc;

use rhizome_protocol::{
    Incoming, Membership, Object, Pdu, RoomRules, canonical, receive::servers_to_sign, sign,
};
use rhizome_rooms::{
    admit::{self, Template},
    membership::restricted,
};
use rhizome_storage::{RoomHead, StoredEvent};
use ruma::{EventId, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId};
use serde_json::{Value, value::RawValue};

use super::guard;
use crate::{Federation, MatrixError, fetch::verify, policy};

/// The room versions that the other server speaks, by the query's `ver`: without it, version 1. An empty
/// list must not mean any.
pub(super) fn spoken(ver: Vec<RoomVersionId>) -> Vec<RoomVersionId> {
    if ver.is_empty() {
        vec![RoomVersionId::V1]
    } else {
        ver
    }
}

/// An event template for a user of `origin`, as JSON text, and the room's version.
pub(super) async fn template(
    fed: &Federation,
    origin: &ServerName,
    room_id: &RoomId,
    user: &UserId,
    membership: Membership,
    versions: &[RoomVersionId],
) -> Result<(Box<RawValue>, &'static RoomRules), MatrixError> {
    require_own_user(origin, user)?;
    let head = guard::known(fed, origin, room_id).await?;
    if membership != Membership::Leave {
        guard::complete(&head)?;
    }
    let Template { rules, event } =
        admit::template(fed.rooms(), room_id, user, membership, versions).await?;
    let raw = serde_json::value::to_raw_value(&event).map_err(|error| {
        tracing::error!(%error, "a template can't be encoded");
        MatrixError::internal()
    })?;
    Ok((raw, rules))
}

/// Takes the finished event into the room and sends it on to the room's other servers.
pub(super) async fn admit(
    fed: &Federation,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
    raw: &RawValue,
    membership: Membership,
) -> Result<(Arc<RoomHead>, Arc<StoredEvent>), MatrixError> {
    let head = guard::known(fed, origin, room_id).await?;
    if membership != Membership::Leave {
        guard::complete(&head)?;
    }
    let mut event = parsed(head.rules, raw)?;
    // Versions with restricted rooms have no numbers that an object can't hold.
    if membership == Membership::Join && head.rules.auth.restricted {
        let mut object = event.into_object();
        authorise(fed, origin, &head, &mut object).await?;
        event = object.into();
    }
    if !is_own(fed, origin, head.rules, &event) {
        return Err(MatrixError::forbidden(format!(
            "The event must be signed by another server than {origin}, which hands it in"
        )));
    }
    let pdu = checked_event(fed, head.rules, event).await?;
    require_membership_of(origin, &pdu, room_id, event_id, membership)?;
    let pdu = policy::signed(fed, pdu, Some(origin)).await?;
    let admitted = admit::admit_signed(fed.rooms(), pdu).await?;
    Ok((head, admitted))
}

/// Format, signatures and hash of one event of `origin`'s that came as a request's body.
pub(super) async fn checked(
    fed: &Federation,
    origin: &ServerName,
    rules: &'static RoomRules,
    raw: &RawValue,
) -> Result<Arc<Pdu>, MatrixError> {
    let event = parsed(rules, raw)?;
    if !is_own(fed, origin, rules, &event) {
        return Err(MatrixError::invalid_param(
            "The event must be signed by another server than the one that hands it in",
        ));
    }
    checked_event(fed, rules, event).await
}

/// Whether an event needs no signatures but its server's and ours. What needs others isn't theirs to hand in, and they can't
/// have us look for anybody's keys by it.
fn is_own(fed: &Federation, origin: &ServerName, rules: &RoomRules, event: &Object) -> bool {
    let servers = servers_to_sign(rules, event);
    (servers.iter()).all(|server| server == origin || server == fed.server_name())
}

fn parsed(rules: &RoomRules, raw: &RawValue) -> Result<Incoming, MatrixError> {
    let event =
        verify::parse(raw).map_err(|rejection| MatrixError::bad_json(rejection.to_string()))?;
    if !rules.format.strict_json {
        return Ok(event);
    }
    let mut object = event.into_object();
    // What is unsigned is none of the event, and may hold anything.
    object.remove("unsigned");
    canonical::to_canonical(&object).map_err(|error| MatrixError::bad_json(error.to_string()))?;
    Ok(object.into())
}

/// Signs a join that one of our users has authorised, which `make_join` named in its template (auth rule
/// 5.2). Everything else about it is checked afterwards.
async fn authorise(
    fed: &Federation,
    origin: &ServerName,
    head: &RoomHead,
    join: &mut Object,
) -> Result<(), MatrixError> {
    let by = join
        .get("content")
        .and_then(|content| content.get(restricted::AUTHORISED_VIA))
        .and_then(Value::as_str)
        .and_then(|by| <&UserId>::try_from(by).ok());
    let Some(by) = by else {
        return Ok(());
    };
    if by.server_name() != fed.server_name() {
        return Err(MatrixError::invalid_param(format!(
            "This server can't authorise a join for {}",
            by.server_name()
        )));
    }
    let text = |key: &str| join.get(key).and_then(Value::as_str);
    let of_origin = text("sender")
        .and_then(|sender| <&UserId>::try_from(sender).ok())
        .is_some_and(|sender| sender.server_name() == origin);
    let is_join = text("type") == Some("m.room.member") && text("state_key") == text("sender");
    if !of_origin || !is_join || text("room_id") != Some(head.room_id.as_str()) {
        return Err(MatrixError::invalid_param("That is no join of this room"));
    }
    restricted::check_authorised(fed.rooms(), head, join).await?;
    sign::sign_pdu(head.rules, join, fed.server_name(), fed.signing_key())
        .map_err(|error| MatrixError::bad_json(error.to_string()))
}

async fn checked_event(
    fed: &Federation,
    rules: &'static RoomRules,
    event: Incoming,
) -> Result<Arc<Pdu>, MatrixError> {
    let checked = verify::objects(fed, rules, vec![event]).await.pop();
    match checked {
        Some(Ok(pdu)) => Ok(pdu),
        Some(Err(rejection)) => Err(MatrixError::invalid_param(rejection.to_string())),
        None => Err(MatrixError::internal()),
    }
}

fn require_membership_of(
    origin: &ServerName,
    pdu: &Pdu,
    room_id: &RoomId,
    event_id: &EventId,
    membership: Membership,
) -> Result<(), MatrixError> {
    let wrong = |what: &str| Err(MatrixError::invalid_param(what));
    if pdu.room_id() != room_id {
        return wrong("The event belongs to another room than the path says");
    }
    if pdu.event_id() != event_id {
        return wrong("The event's id is not the one that the path says");
    }
    if pdu.kind() != "m.room.member" || pdu.membership() != Some(membership) {
        return wrong("The event is not of the membership that this endpoint is for");
    }
    if pdu.state_key() != Some(pdu.sender().as_str()) {
        return wrong("The event's sender and state_key differ");
    }
    require_own_user(origin, pdu.sender())
}

/// # Errors
/// 403 `M_FORBIDDEN` for another server's users.
pub(super) fn require_own_user(origin: &ServerName, user: &UserId) -> Result<(), MatrixError> {
    if user.server_name() == origin {
        return Ok(());
    }
    Err(MatrixError::forbidden(format!(
        "{user} is not a user of {origin}"
    )))
}

/// The state key as the user whom a membership event is about.
pub(super) fn target(pdu: &Pdu) -> Option<OwnedUserId> {
    OwnedUserId::try_from(pdu.state_key()?).ok()
}
