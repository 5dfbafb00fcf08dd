//! Invites to rooms that we are not in, and knocks on them: kept until they are answered, withdrawn or
//! rejected.

use std::sync::Arc;

use rhizome_protocol::{
    Membership, Object, Pdu,
    canonical::parse_object,
    draft::{self, Draft, Place},
};
use rhizome_storage::{
    CommitError, CurrentState, Fact, Invite, InviteChange, NewEvent, RemoteInvite, RoomNo,
    RoomWrite, StateChange, WriteSet,
};
use ruma::{RoomId, UserId};

use crate::{
    Error, Rooms, access,
    error::Result,
    send::{
        self, commit_error, known_room,
        tries::{MAX_ATTEMPTS, Tries},
    },
    state::Resolved,
};

/// A join answers the invite that came from outside.
pub(crate) async fn answered_by(rooms: &Rooms, room: RoomNo, join: &Pdu) -> Result<Vec<Fact>> {
    let user = rooms.store().user_no(join.sender()).await?;
    let invite = rooms.store().remote_invite(user, room).await?;
    let gone = invite.map(|_| Invite {
        user,
        room,
        change: InviteChange::Gone {
            event: join.json().clone(),
        },
    });
    Ok(gone.into_iter().map(Fact::from).collect())
}

/// An invite of a local user to a room that we are not in, or the user's knock on it: kept with the stripped
/// state, the text of a JSON array, so that the user can be shown it.
///
/// If we are in the room, nothing is stored: the invite comes as an event of the room.
pub async fn keep(rooms: &Rooms, pdu: &Pdu, stripped_state: Arc<str>) -> Result<()> {
    let store = rooms.store();
    let target = pdu
        .state_key()
        .and_then(|key| <&UserId>::try_from(key).ok());
    let Some(target) = target.filter(|user| rooms.is_local(user)) else {
        return Err(Error::Invalid(
            "The invited user is not one of this server's".into(),
        ));
    };
    let Some(membership @ (Membership::Invite | Membership::Knock)) = pdu.membership() else {
        return Err(Error::Invalid("That is no invite".into()));
    };
    let user = store.user_no(target).await?;
    let sender = store.user_no(pdu.sender()).await?;
    let room = store.room_no(pdu.room_id()).await?;
    for _ in 0..MAX_ATTEMPTS {
        // First of all: whoever comes into the room after this is found when it is written.
        let head = store.room(pdu.room_id()).await?;
        if access::server_in_room(store, pdu.room_id(), rooms.server_name()).await? {
            return Ok(());
        }
        let change = InviteChange::Came {
            membership,
            sender,
            rules: pdu.rules(),
            event: pdu.json().clone(),
            stripped_state: stripped_state.clone(),
            expect: head.map(|head| head.state_version),
        };
        let invite = Invite { user, room, change };
        match store.commit(vec![invite.into()].into()).await {
            Ok(_) => return Ok(()),
            // Another process may have been it, and its entries tell who is there.
            Err(CommitError::StateMoved { .. }) => {
                store.log().refresh().await?;
            }
            Err(error) => return Err(commit_error(error)),
        }
    }
    Err(Error::Contended)
}

/// The invite to a room that we are not in, or the knock on it, is gone: `by` is the membership event of its
/// user with which they rejected it, or others took it back or denied it. The user is shown that event.
///
/// # Errors
///
/// [`Error::Invalid`] if that is no membership event.
pub async fn end(rooms: &Rooms, by: &Pdu) -> Result<()> {
    let store = rooms.store();
    let user = by.state_key().and_then(|key| <&UserId>::try_from(key).ok());
    let (Some(user), Some(_)) = (user, by.membership()) else {
        return Err(Error::Invalid("That is no membership event".into()));
    };
    let invite = Invite {
        user: store.user_no(user).await?,
        room: store.room_no(by.room_id()).await?,
        change: InviteChange::Gone {
            event: by.json().clone(),
        },
    };
    write(rooms, invite).await
}

async fn write(rooms: &Rooms, invite: Invite) -> Result<()> {
    let set = WriteSet::from(vec![invite.into()]);
    rooms.store().commit(set).await.map_err(commit_error)?;
    Ok(())
}

/// The leave event of a user whose rejection of an invite no other server takes: it stays here. Of the room
/// only the invite is known, so it follows that and rests on it.
///
/// # Errors
///
/// [`Error::Invalid`] if what is kept is no invite.
pub fn lone_rejection(rooms: &Rooms, invite: &RemoteInvite, reason: Option<String>) -> Result<Pdu> {
    let parsed = parse_object(invite.event.as_bytes())
        .map_err(|error| Error::Invalid(error.to_string()))
        .and_then(|object| {
            Pdu::parse(invite.rules, object).map_err(|error| Error::Invalid(error.reason))
        })?;
    let user = parsed
        .state_key()
        .and_then(|key| <&UserId>::try_from(key).ok());
    let Some(user) = user else {
        return Err(Error::Invalid("That is no invite".into()));
    };
    let mut draft = leave_of(parsed.room_id(), user);
    if let Some(reason) = reason {
        draft.content.insert("reason".into(), reason.into());
    }
    let place = Place {
        prev_events: vec![parsed.event_id().to_owned()],
        auth_events: vec![parsed.event_id().to_owned()],
        hashes: parsed
            .reference_hash()
            .map(|hash| (parsed.event_id().to_owned(), hash))
            .into_iter()
            .collect(),
        depth: parsed
            .depth()
            .saturating_add(1)
            .min(invite.rules.max_depth()),
        origin_server_ts: rooms.store().clock().now_ms(),
        sticky_ms: None,
    };
    draft::build(
        invite.rules,
        &draft,
        &place,
        rooms.server_name(),
        rooms.key(),
    )
    .map_err(|rejection| Error::Invalid(rejection.reason))
}

/// A local user rejects an invite to a room that this server has left since: nobody else of ours is there,
/// so no other server tells us of the room's events any more. `signed` is the leave event, if one of the
/// room's servers took it; otherwise one is made that stays here. It isn't part of the history that we know:
/// only the membership follows it.
///
/// # Errors
///
/// [`Error::Forbidden`] if the room, as we knew it, doesn't allow it.
pub async fn reject_left_behind(
    rooms: &Rooms,
    room_id: &RoomId,
    user: &UserId,
    signed: Option<Arc<Pdu>>,
) -> Result<()> {
    let store = rooms.store();
    let room = known_room(rooms, room_id).await?.room;
    let mut tries = Tries::new(rooms, room);
    while tries.again().await? {
        let head = known_room(rooms, room_id).await?;
        let event = match &signed {
            Some(event) => event.clone(),
            None => Arc::new(send::prepare(rooms, &leave_of(room_id, user)).await?),
        };
        let no = match store.event(event.event_id()).await? {
            Some(known) => known.no,
            None => store.next_event_no().await?,
        };
        let before = Resolved {
            snapshot: head.snapshot,
            ..Resolved::default()
        };
        let key = store.key_no("m.room.member", user.as_str()).await?;
        let after = before.with(store, head.room, key, no).await?;
        let changes = after
            .diff_from(store, head.snapshot)
            .await?
            .into_iter()
            .map(|(key, old, new)| StateChange { key, old, new })
            .collect();
        let write = RoomWrite {
            room: head.room,
            expect: Some(head.state_version),
            events: vec![NewEvent::outlier(no, event)],
            current: after
                .snapshot
                .map(|snapshot| CurrentState { snapshot, changes }),
            snapshots: after.new,
            ..RoomWrite::default()
        };
        let set = WriteSet::from(write);
        match tries.commit(set).await {
            Ok(_) => return Ok(()),
            Err(
                CommitError::StateMoved { .. }
                | CommitError::TurnOver
                | CommitError::DuplicateEvent { .. },
            ) => {}
            Err(error) => return Err(commit_error(error)),
        }
    }
    Err(Error::Contended)
}

fn leave_of(room_id: &RoomId, user: &UserId) -> Draft {
    let mut content = Object::new();
    content.insert("membership".into(), Membership::Leave.as_str().into());
    Draft {
        room_id: Some(room_id.to_owned()),
        sender: user.to_owned(),
        kind: "m.room.member".into(),
        state_key: Some(user.to_string()),
        content,
        redacts: None,
    }
}
