//! Joins of restricted rooms: who may come in without an invite, and who of ours lets them in
//! (client-server "Restricted rooms").

use std::sync::Arc;

use rhizome_protocol::{
    Membership, Object, Pdu, Rejection, RoomRules,
    content::{JoinRule, text},
    power::{Action, Level, Power},
};
use rhizome_storage::{RoomHead, SnapshotNo};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

use crate::{Error, Rooms, access, error::Result, membership};

/// The member of a join's content that names who lets the user in.
pub const AUTHORISED_VIA: &str = "join_authorised_via_users_server";
/// How many members without a level of their own are asked.
const MAX_OTHERS: usize = 100;
/// How many conditions of a room are looked at.
const MAX_CONDITIONS: usize = 100;

/// Who of our users lets `user` join the room; `None` if nobody needs to: the room isn't restricted, or
/// the user is invited, or in it already, or banned.
///
/// # Errors
///
/// [`Error::Forbidden`] if the user meets none of the conditions, [`Error::UnableToAuthorise`] if we can't
/// tell, [`Error::UnableToGrant`] if none of our users may let anybody in.
pub async fn authoriser(
    rooms: &Rooms,
    head: &RoomHead,
    user: &UserId,
) -> Result<Option<OwnedUserId>> {
    let Some(at) = head.snapshot else {
        return Ok(None);
    };
    let Some(rules) = restriction(rooms, head.rules, at).await? else {
        return Ok(None);
    };
    let now = membership::member_event(rooms, at, user).await?;
    if matches!(
        now.and_then(|event| event.membership()),
        Some(Membership::Join | Membership::Invite | Membership::Ban)
    ) {
        return Ok(None);
    }
    meets_a_condition(rooms, user, &allowed_rooms(rules.content())).await?;
    granter(rooms, head, at).await?.map(Some).ok_or_else(|| {
        Error::UnableToGrant("Nobody on this server may let users into the room".into())
    })
}

/// Checks a join that another server's user wants one of ours to have authorised, before it is signed here.
///
/// # Errors
///
/// As [`authoriser`], and [`Error::Forbidden`] if the join names somebody else.
pub async fn check_authorised(rooms: &Rooms, head: &RoomHead, join: &Object) -> Result<()> {
    let sender = text(join, "sender").and_then(|sender| <&UserId>::try_from(sender).ok());
    let Some(sender) = sender else {
        return Err(Error::Invalid("`sender` must be a user id".into()));
    };
    // Whoever the template named may have lost the right in the meantime; another one may not: that the
    // authorisation rules find out.
    authoriser(rooms, head, sender).await.map(drop)
}

/// The join rules, if they are of the restricted kind in this room version.
async fn restriction(rooms: &Rooms, rules: &RoomRules, at: SnapshotNo) -> Result<Option<Arc<Pdu>>> {
    if !rules.auth.restricted {
        return Ok(None);
    }
    let event = rooms
        .store()
        .state_event(at, "m.room.join_rules", "")
        .await?;
    Ok(event.map(|event| event.pdu.clone()).filter(|event| {
        match JoinRule::of(Some(event.content())) {
            JoinRule::Restricted => true,
            JoinRule::KnockRestricted => rules.auth.knock_restricted,
            _ => false,
        }
    }))
}

/// The rooms whose members may come in.
fn allowed_rooms(rules: &Object) -> Vec<OwnedRoomId> {
    let conditions = rules.get("allow").and_then(|allow| allow.as_array());
    let room_of = |condition: &serde_json::Value| {
        let condition = condition.as_object()?;
        (text(condition, "type") == Some("m.room_membership"))
            .then(|| RoomId::parse(text(condition, "room_id")?).ok())
            .flatten()
    };
    let conditions = conditions.into_iter().flatten().take(MAX_CONDITIONS);
    conditions.filter_map(room_of).collect()
}

async fn meets_a_condition(rooms: &Rooms, user: &UserId, allowed: &[OwnedRoomId]) -> Result<()> {
    let mut unknown = false;
    for room in allowed {
        // Of rooms that we are not in, we know nothing; of our own users, that they aren't there either.
        if !access::server_in_room(rooms.store(), room, rooms.server_name()).await? {
            unknown = true;
        } else if !rooms.is_local(user) && is_partial(rooms, room).await? {
            // Whoever was there once may count as being there until all members are known. Who is let in stays.
            unknown = true;
        } else if membership::current(rooms, room, user).await? == Some(Membership::Join) {
            return Ok(());
        }
    }
    if unknown && !rooms.is_local(user) {
        return Err(Error::UnableToAuthorise(
            "This server does not know who is in the rooms whose members may join".into(),
        ));
    }
    Err(Error::Forbidden(Rejection::new(
        "auth 5.3.5",
        format!("{user} is neither invited nor in a room whose members may join"),
    )))
}

async fn is_partial(rooms: &Rooms, room: &RoomId) -> Result<bool> {
    let head = rooms.store().room(room).await?;
    Ok(head.is_some_and(|head| head.partial.is_some()))
}

/// A joined user of ours who may invite.
async fn granter(rooms: &Rooms, head: &RoomHead, at: SnapshotNo) -> Result<Option<OwnedUserId>> {
    let store = rooms.store();
    let keys = [("m.room.create", ""), ("m.room.power_levels", "")];
    let entries = store.state_entries(at, &keys).await?;
    let nos: Vec<_> = entries.into_iter().flatten().collect();
    let events = store.events_by_no(&nos).await?;
    let find = |kind: &str| {
        let mut found = events.iter().filter(|event| event.pdu.is_state(kind, ""));
        found.next().map(|event| &*event.pdu)
    };
    let levels = find("m.room.power_levels").map(Pdu::content);
    let create = find("m.room.create");
    let power = Power::new(head.rules, create, levels);
    let needed = Level::Int(power.action(Action::Invite));
    let may = |user: &UserId| rooms.is_local(user) && power.user(user) >= needed;
    // Who has a level of their own is asked first: there are few of them, and members may be many.
    for user in power.named().filter(|user| may(user)) {
        if membership::current(rooms, &head.room_id, user).await? == Some(Membership::Join) {
            return Ok(Some(user.to_owned()));
        }
    }
    // All others have the same level, but for those whose own is too low.
    let own = rooms.server_name();
    let others = store.joined_of_server(head.room, own, MAX_OTHERS).await?;
    let others = store.users(&others).await?;
    Ok(others.into_iter().find(|user| may(user)))
}
