//! Invites of our users that others take back, and knocks that they answer, in rooms that we aren't in.

use std::time::Duration;

use rhizome_protocol::{Membership, receive::event_id};
use rhizome_rooms::membership::remote_invite;
use rhizome_storage::RemoteInvite;
use ruma::{RoomId, UserId};
use serde_json::Value;

use super::{
    Sent,
    offered::{Offered, checked},
};
use crate::MatrixError;

/// How long what may be the answer to a knock waits for the knock itself to be done.
const KNOCK_PATIENCE: Duration = Duration::from_secs(10);

/// An invite that we keep for a user of ours ends when whoever invited takes it back: by a later event that
/// rests on the invite and makes the user leave, or bans them. We aren't in the room, so nobody else tells;
/// and we don't know its powers, so that we can't tell whether anybody else was allowed to. A knock ends by
/// such an event of anybody's: only the room's servers know its id.
pub(super) async fn withdrawn_invite(
    sent: &Sent<'_>,
    room_id: &RoomId,
    offered: &Offered,
) -> Result<(), MatrixError> {
    let fed = sent.fed;
    let text = |key: &str| offered.object.get(key).and_then(Value::as_str);
    let Some(user) = text("state_key").and_then(|key| <&UserId>::try_from(key).ok()) else {
        return Ok(());
    };
    if text("type") != Some("m.room.member") || user.server_name() != fed.server_name() {
        return Ok(());
    }
    // The room may answer a knock before its door has told us that it was taken. That is waited for, and nobody who wants into
    // the room waits for what follows.
    let knocks = fed.joining().turns.lock(room_id.to_owned());
    drop(tokio::time::timeout(KNOCK_PATIENCE, knocks).await);
    let (Some(user_no), Some(room)) = (
        fed.store().known_user(user).await?,
        fed.store().known_room(room_id).await?,
    ) else {
        return Ok(());
    };
    let Some(invite) = fed.store().remote_invite(user_no, room).await? else {
        return Ok(());
    };
    let is_knock = invite.sender == *user;
    if !may_look_at(sent, &invite, is_knock, offered) {
        return Ok(());
    }
    let (mut passed, _) = checked(sent, invite.rules, vec![offered.clone()], false).await;
    let Some(pdu) = passed.pop() else {
        return Ok(());
    };
    let ends = matches!(pdu.membership(), Some(Membership::Leave | Membership::Ban));
    let invited_by = rhizome_protocol::canonical::parse_object(invite.event.as_bytes())
        .ok()
        .and_then(|object| event_id(invite.rules, &object.into()));
    let rests_on_it = invited_by.is_some_and(|invite| pdu.auth_events().contains(&invite));
    if ends && rests_on_it && (is_knock || pdu.sender() == invite.sender) {
        remote_invite::end(fed.rooms(), &pdu).await?;
    }
    Ok(())
}

/// Whether an event is worth a look for the keys of its server. Only who invited takes an invite back; who answers a knock may be
/// anybody in the room, but that isn't to make us ask ever so many servers.
fn may_look_at(sent: &Sent<'_>, invite: &RemoteInvite, is_knock: bool, offered: &Offered) -> bool {
    let (fed, origin) = (sent.fed, sent.origin);
    let inviter = invite.sender.server_name();
    let servers = offered.servers_to_sign(invite.rules);
    let is_near = (servers.iter()).all(|server| server == origin || server == inviter);
    is_near || (is_knock && fed.budgets().newcomers(origin, 1).is_ok())
}
