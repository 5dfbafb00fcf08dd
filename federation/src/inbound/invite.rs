//! Users of ours are invited by other servers: the invite is checked, signed and kept
//! (<https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>).

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::limits::ms;
use rhizome_protocol::{Membership, Pdu, RoomRules, sign};
use rhizome_rooms::{
    Error,
    invites::{self, Verdict},
    membership::{self, remote_invite},
    receive::{Gathered, Received, pushed},
};
use rhizome_storage::UserNo;
use ruma::{
    EventId, OwnedUserId, RoomId, RoomVersionId, ServerName,
    api::federation::membership::{RawStrippedState, create_invite},
};
use serde_json::{Value, value::RawValue};

use super::{
    guard, member,
    transaction::aside::{may_wait, put_aside},
    v1, wire,
};
use crate::{Federation, MatrixError, RawJson, Ruma, fetch::verify, handshake::stripped, services};

/// How many invites wait for a user's answer at most, of all servers and of one.
const MAX_PENDING: usize = 100;
const MAX_PENDING_OF_SERVER: usize = 30;
/// When to come again who has too much waiting here.
const INBOX_FULL_MS: u64 = 30_000;
/// The most bytes of an invite. Each first sync of the user holds what is in it, until they answer.
const MAX_INVITE_BYTES: usize = 16 << 10;

/// `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`
pub(super) async fn invite(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<create_invite::v2::Request>,
) -> Result<create_invite::v2::Response, MatrixError> {
    let stripped: Vec<Box<RawValue>> = req
        .invite_room_state
        .into_iter()
        .filter_map(|entry| match entry {
            RawStrippedState::Pdu(raw) => Some(raw),
            #[expect(deprecated, reason = "servers before 1.16 still send it")]
            RawStrippedState::Stripped(raw) => Some(raw.into_json()),
            _ => None,
        })
        .collect();
    let signed = accept(
        &fed,
        &who,
        &req.room_id,
        &req.event_id,
        &req.room_version,
        &req.event,
        &stripped,
    )
    .await?;
    Ok(create_invite::v2::Response::new(wire::raw(&signed)?))
}

/// `PUT /_matrix/federation/v1/invite/{roomId}/{eventId}`: of rooms of version 1 or 2, which nothing else
/// can be told from.
pub(super) async fn invite_v1(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<v1::Invite>,
) -> Result<RawJson, MatrixError> {
    let v1::Invite(req) = req;
    let body = verify::parse(&req.pdu)
        .map_err(|rejection| MatrixError::bad_json(rejection.to_string()))?;
    let stripped: Vec<Box<RawValue>> = body
        .get("unsigned")
        .and_then(|unsigned| unsigned.get("invite_room_state"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|entry| serde_json::value::to_raw_value(entry).ok())
        .collect();
    let signed = accept(
        &fed,
        &who,
        &req.room_id,
        &req.event_id,
        &RoomVersionId::V1,
        &req.pdu,
        &stripped,
    )
    .await?;
    Ok(RawJson(
        format!("[200,{{\"event\":{}}}]", signed.json()).into(),
    ))
}

async fn accept(
    fed: &Federation,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
    version: &RoomVersionId,
    event: &RawValue,
    stripped: &[Box<RawValue>],
) -> Result<Pdu, MatrixError> {
    require_rate(fed, origin)?;
    let rules = RoomRules::get(version).ok_or_else(|| unsupported(version))?;
    let pdu = member::checked(fed, origin, rules, event).await?;
    let user = require_invite(fed, origin, &pdu, room_id, event_id)?;
    // Whose namespace the user is in may make the account now.
    services::user(fed, &user, None).await?;
    let account = fed.store().account(&user).await?;
    let Some(account) = account.filter(|account| !account.deactivated) else {
        return Err(MatrixError::forbidden("The invited user has no account"));
    };
    membership::require_open(fed.store(), room_id).await?;
    let verdict = invites::verdict(fed.store(), pdu.sender(), &user).await?;
    if verdict == Verdict::Refused {
        return Err(Error::InviteBlocked(user).into());
    }
    if let Some(head) = fed.store().room(room_id).await? {
        guard::require_allowed(fed, origin, &head).await?;
    }
    let inviter = Some(pdu.sender());
    let stripped = stripped::for_users(fed, rules, room_id, inviter, stripped).await?;
    let signed =
        sign::countersign(&pdu, fed.server_name(), fed.signing_key()).map_err(|rejection| {
            tracing::warn!(%rejection, event = %pdu.event_id(), "an invite can't be signed");
            MatrixError::invalid_param(rejection.to_string())
        })?;
    if !admitted(fed, origin, &signed).await? {
        let _counted = fed.inbound().invited.lock(account.user).await;
        if has_place(fed, origin, room_id, (account.user, verdict)).await? {
            remote_invite::keep(fed.rooms(), &signed, stripped.into()).await?;
        }
    }
    Ok(signed)
}

/// Whether the invite is part of a room that we are in, or soon will be: then the user may act on it. One that stands on
/// what hasn't come waits in the inbox for that.
async fn admitted(
    fed: &Federation,
    origin: &ServerName,
    signed: &Pdu,
) -> Result<bool, MatrixError> {
    let Some(head) = fed.store().room(signed.room_id()).await? else {
        return Ok(false);
    };
    let servers = fed.store().joined_servers(head.room).await?;
    if !servers.iter().any(|server| server == fed.server_name()) {
        return Ok(false);
    }
    match pushed(fed.rooms(), Arc::new(signed.clone()), &Gathered::default()).await {
        Ok(Received::Need(_)) | Err(Error::Contended) => {
            let is_member = servers.iter().any(|server| server == origin);
            let taken = put_aside(fed, origin, signed, may_wait(is_member)).await?;
            // What waits of that server's gets less.
            taken.map_err(|_| MatrixError::limit_exceeded(INBOX_FULL_MS))?;
            Ok(true)
        }
        outcome => Ok(matches!(outcome?, Received::Accepted | Received::Known)),
    }
}

fn require_rate(fed: &Federation, origin: &ServerName) -> Result<(), MatrixError> {
    let Some(rate) = fed.config().invites else {
        return Ok(());
    };
    let now = ms(fed.store().clock().monotonic());
    let taken = fed.inbound().invites.take(rate, origin, 1, now);
    taken.map_err(MatrixError::limit_exceeded)
}

/// Whoever has too many invites to answer gets no more. The new one is refused rather than an old one dropped:
/// so both sides know of it. Of what the user isn't told, which they can't answer, at most half of the places are full; one
/// more isn't kept, and nobody hears of that.
async fn has_place(
    fed: &Federation,
    origin: &ServerName,
    room_id: &RoomId,
    (user, verdict): (UserNo, Verdict),
) -> Result<bool, MatrixError> {
    let store = fed.store();
    if let Some(room) = store.known_room(room_id).await?
        && store.remote_invite(user, room).await?.is_some()
    {
        // It takes the place of the one that is there.
        return Ok(true);
    }
    let pending = store.pending_invites(user, origin).await?;
    if verdict == Verdict::Hidden {
        let few = pending.all < MAX_PENDING / 2 && pending.of_server < MAX_PENDING_OF_SERVER / 2;
        return Ok(few);
    }
    if pending.all >= MAX_PENDING || pending.of_server >= MAX_PENDING_OF_SERVER {
        tracing::info!(%origin, %user, ?pending, "an invite too many was refused");
        let message = "The invited user has too many invites to answer";
        return Err(MatrixError::forbidden(message));
    }
    Ok(true)
}

/// The checks that keep us from signing what is no invite of ours. Gives the invited user.
fn require_invite(
    fed: &Federation,
    origin: &ServerName,
    pdu: &Pdu,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<OwnedUserId, MatrixError> {
    let wrong = |what: &str| Err(MatrixError::invalid_param(what));
    if pdu.kind() != "m.room.member" {
        return wrong("The event is not an m.room.member event");
    }
    if pdu.membership() != Some(Membership::Invite) {
        return wrong("The event's membership is not invite");
    }
    if pdu.room_id() != room_id || pdu.event_id() != event_id {
        return wrong("The event is not the one that the path says");
    }
    if pdu.sender().server_name() != origin {
        return wrong("The inviting user is not of the inviting server");
    }
    if pdu.json().len() > MAX_INVITE_BYTES {
        return Err(MatrixError::too_large("The invite is too large"));
    }
    match member::target(pdu) {
        Some(user) if user.server_name() == fed.server_name() => Ok(user),
        _ => wrong("The invited user is not of this server"),
    }
}

fn unsupported(version: &RoomVersionId) -> MatrixError {
    let message = format!("This server does not support room version {version}");
    MatrixError::new(
        StatusCode::BAD_REQUEST,
        "M_INCOMPATIBLE_ROOM_VERSION",
        message,
    )
    .with("room_version", version.as_str())
}
