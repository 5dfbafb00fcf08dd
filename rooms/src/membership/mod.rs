//! Changes of membership that local users ask for: from a wish to the draft of a member event.
//!
//! [`prepare`] looks at the room and says what to send, or that nothing needs to be sent. The draft
//! then goes the way of every local event; the authorisation rules have the last word.

pub mod remote_invite;
pub mod restricted;

use rhizome_protocol::{Membership, Object, Pdu, draft::Draft};
use rhizome_storage::{Fact, Forgotten, Store};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use std::sync::Arc;

use crate::{
    Error, Rooms,
    error::Result,
    send::{commit_error, known_room},
};

/// What a local user wants to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Join the room (oneself).
    Join,
    /// Ask to be invited (oneself).
    Knock,
    /// Invite somebody.
    Invite,
    /// Leave, or reject an invite (oneself).
    Leave,
    /// Make somebody leave, or take an invite back.
    Kick,
    /// Ban somebody.
    Ban,
    /// Lift a ban.
    Unban,
}

/// A wish to change a membership.
#[derive(Debug, Clone)]
pub struct MembershipChange {
    /// Where.
    pub room_id: OwnedRoomId,
    /// Who wants it.
    pub sender: OwnedUserId,
    /// Whose membership; the sender's own for [`Action::Join`], [`Action::Knock`] and [`Action::Leave`].
    pub target: OwnedUserId,
    /// What.
    pub action: Action,
    /// Why, for people to read.
    pub reason: Option<String>,
    /// What else the content is to say: the target's profile, `is_direct`, `third_party_invite`.
    pub extra: Object,
}

/// Whether people here may come into a room, as far as the operator is concerned.
///
/// # Errors
/// [`Error::Denied`] if it is blocked.
pub async fn require_open(store: &Store, room_id: &RoomId) -> Result<()> {
    if store.blocks().await?.room(room_id) {
        return Err(Error::Denied(
            "The operator of this server has blocked the room".into(),
        ));
    }
    Ok(())
}

/// [`require_open`], for who may be there already.
///
/// # Errors
///
/// [`Error::Denied`]
pub async fn require_open_to(rooms: &Rooms, room_id: &RoomId, user: &UserId) -> Result<()> {
    match require_open(rooms.store(), room_id).await {
        Err(Error::Denied(_)) if current(rooms, room_id, user).await? == Some(Membership::Join) => {
            Ok(())
        }
        judged => judged,
    }
}

/// The draft that makes the change, or `None` if things are so already.
///
/// # Errors
///
/// [`Error::UnknownRoom`] if we don't take part in the room, and refusals that the authorisation rules
/// wouldn't give: kicking who isn't there, unbanning who isn't banned.
pub async fn prepare(rooms: &Rooms, change: MembershipChange) -> Result<Option<Draft>> {
    let head = known_room(rooms, &change.room_id).await?;
    let MembershipChange {
        room_id,
        sender,
        target,
        action,
        reason,
        extra,
    } = change;
    let now = match head.snapshot {
        Some(at) => member_event(rooms, at, &target).await?,
        None => None,
    };
    let now = now.as_ref().and_then(|pdu| pdu.membership());
    let comes = matches!(action, Action::Join | Action::Knock | Action::Invite);
    if comes && now != Some(Membership::Join) {
        require_open(rooms.store(), &room_id).await?;
    }
    let membership = match action {
        Action::Join => Membership::Join,
        Action::Knock => match now {
            Some(Membership::Join) => {
                return Err(Error::Denied("You are in the room already".into()));
            }
            Some(Membership::Invite) => {
                return Err(Error::Denied("You are invited to the room already".into()));
            }
            Some(Membership::Ban) => {
                return Err(Error::Denied("You are banned from the room".into()));
            }
            Some(Membership::Leave | Membership::Knock) | None => Membership::Knock,
        },
        Action::Invite => {
            match now {
                Some(Membership::Join) => {
                    return Err(Error::Denied(format!("{target} is already in the room")));
                }
                Some(Membership::Ban) => {
                    return Err(Error::Denied(format!("{target} is banned from the room")));
                }
                _ => {}
            }
            Membership::Invite
        }
        Action::Leave => match now {
            Some(Membership::Leave) => return Ok(None),
            Some(Membership::Ban) => {
                return Err(Error::Denied("You are banned from the room".into()));
            }
            None => return Err(Error::Denied("You are not in the room".into())),
            Some(_) => Membership::Leave,
        },
        Action::Kick => match now {
            Some(Membership::Join | Membership::Invite | Membership::Knock) => Membership::Leave,
            _ => return Err(Error::Denied(format!("{target} is not in the room"))),
        },
        Action::Ban => Membership::Ban,
        Action::Unban => match now {
            Some(Membership::Ban) => Membership::Leave,
            _ => {
                return Err(Error::Denied(format!(
                    "{target} is not banned from the room"
                )));
            }
        },
    };
    let mut content = extra;
    content.insert("membership".into(), membership.as_str().into());
    if let Some(reason) = reason {
        content.insert("reason".into(), reason.into());
    }
    Ok(Some(Draft {
        room_id: Some(room_id),
        sender,
        kind: "m.room.member".into(),
        state_key: Some(target.to_string()),
        content,
        redacts: None,
    }))
}

/// The member event of `user` in a state.
pub(crate) async fn member_event(
    rooms: &Rooms,
    at: rhizome_storage::SnapshotNo,
    user: &UserId,
) -> Result<Option<Arc<Pdu>>> {
    let event = rooms
        .store()
        .state_event(at, "m.room.member", user.as_str())
        .await?;
    Ok(event.map(|event| event.pdu.clone()))
}

/// The user's membership in a room now, also for an invite to a room that we aren't in.
pub async fn current(rooms: &Rooms, room_id: &RoomId, user: &UserId) -> Result<Option<Membership>> {
    let store = rooms.store();
    let (Some(room), Some(user)) = (
        store.known_room(room_id).await?,
        store.known_user(user).await?,
    ) else {
        return Ok(None);
    };
    Ok(store
        .membership(user, room)
        .await?
        .map(|row| row.membership))
}

/// The user forgets a room that they have left.
///
/// # Errors
///
/// [`Error::BadState`] while they are in it, or invited.
pub async fn forget(rooms: &Rooms, room_id: &RoomId, user: &UserId) -> Result<()> {
    let store = rooms.store();
    let (Some(room), Some(user)) = (
        store.known_room(room_id).await?,
        store.known_user(user).await?,
    ) else {
        return Err(Error::UnknownRoom(room_id.to_owned()));
    };
    match store
        .membership(user, room)
        .await?
        .map(|row| row.membership)
    {
        None => return Err(Error::UnknownRoom(room_id.to_owned())),
        Some(Membership::Leave | Membership::Ban) => {}
        Some(_) => {
            return Err(Error::BadState(
                "Leave the room before you forget it".into(),
            ));
        }
    }
    let set = rhizome_storage::WriteSet::from(vec![Fact::Forgotten(Forgotten { user, room })]);
    store.commit(set).await.map_err(commit_error)?;
    Ok(())
}
