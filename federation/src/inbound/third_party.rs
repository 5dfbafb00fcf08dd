//! Who was invited by an e-mail address has shown that it is theirs
//! (<https://spec.matrix.org/v1.19/server-server-api/#third-party-invites>).
//!
//! An identity server tells the server of the user who has the address now (`onbind`), which asks the server of who
//! invited it to make an invite of that (`exchange_third_party_invite`). What `onbind` says isn't signed by who says it:
//! it is what the identity server has signed for the room that counts, by keys that the room knows.

use std::{net::IpAddr, time::Duration};

use axum::extract::State;
use futures_util::{StreamExt as _, stream};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rhizome_edge::limits::{Rate, ms};
use rhizome_protocol::{Membership, Object, Pdu, auth::signing_keys, canonical, content::text};
use rhizome_rooms::{
    membership::{self, Action, MembershipChange},
    send::SendOptions,
};
use rhizome_storage::RoomHead;
use ruma::{
    RoomId, UserId,
    api::federation::thirdparty::{
        bind_callback::v1::{self as bind_callback, ThirdPartyInvite},
        exchange_invite::v1 as exchange_invite,
    },
    events::StateEventType,
};
use serde_json::{Value, json, value::RawValue};

use super::{guard, v1};
use crate::{
    Federation, MatrixError, Ruma, identity, local,
    outbound::{Limits, OutboundError, refusal},
};

/// How many invites are taken of one notification, and how many of them are worked on at once.
const MOST: usize = 20;
const AT_ONCE: usize = 4;
/// Who says that an address is somebody's needn't show who they are, and has us ask others: so many invites they may tell of.
const TOLD: Rate = Rate {
    per_second: 0.2,
    burst: 40,
};
/// How many keys' validity is asked for.
const MAX_KEYS: usize = 4;
/// Time for another server to make an invite, which asks us for our signature meanwhile.
const TIME: Duration = Duration::from_secs(30);

/// `PUT /_matrix/federation/v1/3pid/onbind`
pub(super) async fn on_bind(
    State(fed): State<Federation>,
    Ruma { req, peer, .. }: Ruma<bind_callback::Request>,
) -> Result<bind_callback::Response, MatrixError> {
    bound(&fed, req, peer).await
}

/// `POST /_matrix/federation/v1/3pid/onbind`: so identity servers ask.
pub(super) async fn on_bind_by_post(
    State(fed): State<Federation>,
    Ruma { req, peer, .. }: Ruma<v1::OnBind>,
) -> Result<bind_callback::Response, MatrixError> {
    bound(&fed, req.0, peer).await
}

async fn bound(
    fed: &Federation,
    req: bind_callback::Request,
    peer: Option<IpAddr>,
) -> Result<bind_callback::Response, MatrixError> {
    let user = req.mxid;
    if !fed.rooms().is_local(&user) {
        return Err(MatrixError::invalid_param("The user is not of this server"));
    }
    let of_user = req.invites.into_iter().filter(|invite| invite.mxid == user);
    let invites: Vec<_> = of_user.take(MOST).collect();
    require_rate(fed, peer, invites.len())?;
    // Who asks needn't show who they are, and isn't told who has an account here.
    let account = fed.store().account(&user).await?;
    if account.is_none_or(|account| account.deactivated) {
        return Ok(bind_callback::Response::new());
    }
    stream::iter(invites)
        .for_each_concurrent(AT_ONCE, |invite| {
            let user = &user;
            async move {
                if let Err(error) = take_up(fed, user, &invite).await {
                    tracing::info!(room = %invite.room_id, %error, "a third-party invite comes to nothing");
                }
            }
        })
        .await;
    Ok(bind_callback::Response::new())
}

fn require_rate(fed: &Federation, peer: Option<IpAddr>, count: usize) -> Result<(), MatrixError> {
    let now = ms(fed.store().clock().monotonic());
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    let told = &fed.inbound().told;
    let taken = match peer {
        Some(peer) => told.take_from(TOLD, ((), peer), count, now),
        None => told.take(TOLD, (), count, now),
    };
    taken.map_err(MatrixError::limit_exceeded)
}

async fn take_up(
    fed: &Federation,
    user: &UserId,
    invite: &ThirdPartyInvite,
) -> Result<(), MatrixError> {
    let signed = canonical::parse_object(invite.signed.json().get().as_bytes())
        .map_err(|error| MatrixError::bad_json(error.to_string()))?;
    fed.take_up_third_party_invite(user, &invite.room_id, &invite.sender, signed)
        .await
}

impl Federation {
    /// Makes an invite of a user of ours of a third-party invite, or has it made by the server of who made that.
    ///
    /// # Errors
    /// 403 if nothing comes of it, for whatever reason.
    pub async fn take_up_third_party_invite(
        &self,
        user: &UserId,
        room_id: &RoomId,
        sender: &UserId,
        signed: Object,
    ) -> Result<(), MatrixError> {
        require_for(&signed, user)?;
        if !self.rooms().is_local(sender) {
            return ask_for_it(self, user, room_id, sender, &signed).await;
        }
        let head = self.store().room(room_id).await?;
        let head = head.ok_or_else(|| MatrixError::not_found("The room isn't known"))?;
        issue(self, &head, room_id, (sender, user), signed).await
    }
}

/// Has an invite made by the server of who made the third-party invite: it knows what has to be shown, and is in the room
/// if they are.
async fn ask_for_it(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
    sender: &UserId,
    signed: &Object,
) -> Result<(), MatrixError> {
    let body = json!({
        "type": "m.room.member",
        "room_id": room_id,
        "sender": sender,
        "state_key": user,
        "content": {
            "membership": Membership::Invite.as_str(),
            // The room has a better one: what it was told of the address.
            "third_party_invite": { "display_name": user.localpart(), "signed": signed },
        },
    });
    let body = RawValue::from_string(body.to_string()).map_err(|_| MatrixError::internal())?;
    let room = utf8_percent_encode(room_id.as_str(), NON_ALPHANUMERIC);
    let target = format!("/_matrix/federation/v1/exchange_third_party_invite/{room}");
    let limits = Limits {
        timeout: Some(TIME),
        ..Limits::default()
    };
    let asked = fed.outbound().call(
        sender.server_name(),
        Method::PUT,
        &target,
        Some(&body),
        limits,
    );
    asked.await.map(drop).map_err(|error| match error {
        OutboundError::Remote(error) => refusal::for_client(error),
        other => MatrixError::bad_gateway(format!("The inviting user's server: {other}")),
    })
}

/// `PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}`
pub(super) async fn exchange(
    State(fed): State<Federation>,
    Ruma { who, req, body, .. }: Ruma<exchange_invite::Request>,
) -> Result<exchange_invite::Response, MatrixError> {
    let wrong = |what: &str| MatrixError::invalid_param(what);
    let head = guard::known(&fed, &who, &req.room_id).await?;
    let whole =
        canonical::parse_object(&body).map_err(|error| MatrixError::bad_json(error.to_string()))?;
    if req.kind != StateEventType::RoomMember {
        return Err(wrong("The event is not an m.room.member event"));
    }
    if text(&whole, "room_id").is_some_and(|room| room != req.room_id.as_str()) {
        return Err(wrong("The event is not of the room that the path says"));
    }
    let content = whole.get("content").and_then(Value::as_object);
    let content = content.ok_or_else(|| wrong("The event has no content"))?;
    if text(content, "membership") != Some(Membership::Invite.as_str()) {
        return Err(wrong("The event's membership is not invite"));
    }
    let signed = content.get("third_party_invite");
    let signed = signed.and_then(|invite| invite.get("signed")?.as_object());
    let signed = signed.ok_or_else(|| wrong("The third-party invite has no `signed`"))?;
    if !fed.rooms().is_local(&req.sender) {
        return Err(wrong("The inviting user is not of this server"));
    }
    if req.state_key.server_name() != who {
        let message = "The invited user is of another server than the one that asks";
        return Err(MatrixError::forbidden(message));
    }
    require_for(signed, &req.state_key)?;
    let who = (&*req.sender, &*req.state_key);
    issue(&fed, &head, &req.room_id, who, signed.clone()).await?;
    Ok(exchange_invite::Response::new())
}

/// What was signed names the user.
fn require_for(signed: &Object, user: &UserId) -> Result<(), MatrixError> {
    if text(signed, "mxid") == Some(user.as_str()) {
        return Ok(());
    }
    let message = "What the identity server has signed is for another user";
    Err(MatrixError::forbidden(message))
}

/// Invites who has shown that the address is theirs, in the name of our user who invited the address.
async fn issue(
    fed: &Federation,
    head: &RoomHead,
    room_id: &RoomId,
    (sender, target): (&UserId, &UserId),
    signed: Object,
) -> Result<(), MatrixError> {
    require_active(fed, sender).await?;
    let unknown = || MatrixError::forbidden("The room knows no third-party invite with this token");
    let token = text(&signed, "token").ok_or_else(unknown)?;
    let at = head.snapshot.ok_or_else(unknown)?;
    let store = fed.store();
    let known = store.state_event(at, "m.room.third_party_invite", token);
    let known = known.await?.ok_or_else(unknown)?;
    if known.pdu.sender() != sender {
        let message = "Somebody else made the third-party invite";
        return Err(MatrixError::forbidden(message));
    }
    let member = store.state_event(at, "m.room.member", target.as_str());
    if let Some(member) = member.await? {
        require_not_put_out(&known.pdu, &member.pdu, target)?;
    }
    require_valid(fed, &signed, known.pdu.content()).await?;
    let name = text(known.pdu.content(), "display_name").unwrap_or_default();
    let invite = json!({ "display_name": name, "signed": signed });
    let change = MembershipChange {
        room_id: room_id.to_owned(),
        sender: sender.to_owned(),
        target: target.to_owned(),
        action: Action::Invite,
        reason: None,
        extra: Object::from_iter([("third_party_invite".to_owned(), invite)]),
    };
    if let Some(draft) = membership::prepare(fed.rooms(), change).await? {
        local::send(fed, draft, SendOptions::default()).await?;
    }
    Ok(())
}

/// Our user may still invite.
async fn require_active(fed: &Federation, sender: &UserId) -> Result<(), MatrixError> {
    let account = fed.store().account(sender).await?;
    let may = account.is_some_and(|it| !it.deactivated && !it.locked && !it.suspended);
    if may && !fed.store().blocks().await?.user(sender) {
        return Ok(());
    }
    let message = "Who made the third-party invite can't invite anybody now";
    Err(MatrixError::forbidden(message))
}

/// Who was put out of the room after the third-party invite doesn't come in by it again: what was signed could be shown
/// any number of times.
fn require_not_put_out(known: &Pdu, member: &Pdu, target: &UserId) -> Result<(), MatrixError> {
    let is_put_out = member.membership() == Some(Membership::Leave)
        && member.sender() != target
        && member.depth() > known.depth();
    if is_put_out {
        return Err(MatrixError::forbidden(format!(
            "{target} was put out of the room after the third-party invite"
        )));
    }
    Ok(())
}

/// It was signed by a key that the room knows, and which still is one of the identity server's.
async fn require_valid(
    fed: &Federation,
    signed: &Object,
    known: &Object,
) -> Result<(), MatrixError> {
    let keys = signing_keys(signed, known);
    if keys.is_empty() {
        let message = "The third-party invite is not signed by a key that the room knows";
        return Err(MatrixError::forbidden(message));
    }
    for (key, url) in keys.into_iter().take(MAX_KEYS) {
        match url {
            None => return Ok(()),
            Some(url) if identity::is_valid(fed, url, key).await => return Ok(()),
            Some(_) => {}
        }
    }
    let message = "The key that the third-party invite is signed by isn't valid any more";
    Err(MatrixError::forbidden(message))
}
