//! Which part of a room a reader may see.
//!
//! A user sees a room's state while in it, as it was when they left, or as it is if the room is
//! world-readable. A server sees the events of rooms that it is in, unless the history was for members
//! only and none of its users was one. (How a user sees single events is `client-api`'s, which shows
//! them; the rule itself is [`rhizome_protocol::visibility::can_see`].)

use std::{collections::HashMap, sync::Arc};

use rhizome_protocol::{Membership, visibility::HistoryVisibility};
use rhizome_storage::{EventNo, MembershipRow, Pos, RoomHead, RoomNo, SnapshotNo, StoredEvent};
use ruma::{RoomId, ServerName, UserId};

use crate::{Error, Rooms, error::Result, state};

fn not_in_room() -> Error {
    Error::Denied("You are not in this room".into())
}

/// The room, if the user is joined to it.
///
/// # Errors
///
/// [`Error::Denied`] otherwise, also for rooms that don't exist: the two must look the same.
pub async fn require_joined(
    rooms: &Rooms,
    user: &UserId,
    room_id: &RoomId,
) -> Result<Arc<RoomHead>> {
    let head = head_of(rooms, room_id).await?;
    match row(rooms, user, head.room).await? {
        Some(row) if row.membership == Membership::Join => Ok(head),
        _ => Err(not_in_room()),
    }
}

/// The part of a room's state that a user may see.
#[derive(Debug, Clone)]
pub struct StateSeen {
    /// The room.
    pub head: Arc<RoomHead>,
    /// The state: now, or when the user left.
    pub snapshot: SnapshotNo,
    /// When the user left, if they have.
    pub left: Option<Pos>,
}

/// The room's state as the user may see it.
///
/// # Errors
///
/// [`Error::Denied`] if they never were in the room and it isn't world-readable.
pub async fn require_can_see_state(
    rooms: &Rooms,
    user: &UserId,
    room_id: &RoomId,
) -> Result<StateSeen> {
    let head = head_of(rooms, room_id).await?;
    let Some(current) = head.snapshot else {
        return Err(not_in_room());
    };
    let row = row(rooms, user, head.room).await?;
    if row.is_some_and(|row| row.membership == Membership::Join) {
        return Ok(StateSeen {
            head,
            snapshot: current,
            left: None,
        });
    }
    let event = rooms
        .store()
        .state_event(current, "m.room.history_visibility", "")
        .await?;
    let visibility = HistoryVisibility::of(event.as_ref().map(|event| event.pdu.content()));
    if visibility == HistoryVisibility::WorldReadable {
        return Ok(StateSeen {
            head,
            snapshot: current,
            left: None,
        });
    }
    if let Some(row) = row.filter(|row| !row.forgotten)
        && let Some(left) = last_left(rooms, user, row).await?
    {
        return Ok(StateSeen {
            head,
            snapshot: left.state,
            left: Some(left.pos),
        });
    }
    Err(not_in_room())
}

async fn head_of(rooms: &Rooms, room_id: &RoomId) -> Result<Arc<RoomHead>> {
    match rooms.store().room(room_id).await? {
        Some(head) if head.snapshot.is_some() => Ok(head),
        _ => Err(not_in_room()),
    }
}

async fn row(rooms: &Rooms, user: &UserId, room: RoomNo) -> Result<Option<MembershipRow>> {
    let Some(user) = rooms.store().known_user(user).await? else {
        return Ok(None);
    };
    Ok(rooms.store().membership(user, room).await?)
}

/// Where a user's last time in a room ended.
struct Left {
    /// When.
    pos: Pos,
    /// The state right after.
    state: SnapshotNo,
}

/// When the user, who is not in the room, was joined last: goes back over member events (a ban after a
/// kick after a leave …) to the one that ended a join.
async fn last_left(rooms: &Rooms, user: &UserId, row: MembershipRow) -> Result<Option<Left>> {
    let store = rooms.store();
    let mut next = row.event;
    for _ in 0..20 {
        let Some(no) = next else { return Ok(None) };
        let Some(event) = store.event_by_no(no).await? else {
            return Ok(None);
        };
        let (Some(before), Some(after)) = (event.state_before, event.state_after) else {
            return Ok(None);
        };
        let Some(was) = store
            .state_event(before, "m.room.member", user.as_str())
            .await?
        else {
            return Ok(None);
        };
        if was.pdu.membership() == Some(Membership::Join) {
            let pos = event.pos().unwrap_or(row.since);
            return Ok(Some(Left { pos, state: after }));
        }
        next = Some(was.no);
    }
    Ok(None)
}

/// Whether the server has a joined user in the room.
pub async fn server_in_room(rooms: &Rooms, room_id: &RoomId, server: &ServerName) -> Result<bool> {
    let Some(head) = rooms.store().room(room_id).await? else {
        return Ok(false);
    };
    let servers = rooms.store().joined_servers(head.room).await?;
    Ok(servers.iter().any(|other| other == server))
}

/// Whether each of the events, which are all of one room, may be shown to a server that is in the room:
/// where the history was for members only, one of its users must have been a member at the event. What a user
/// sent whose content is erased, it must have been able to see before that.
pub async fn server_can_see(
    rooms: &Rooms,
    server: &ServerName,
    events: &[Arc<StoredEvent>],
) -> Result<Vec<bool>> {
    let mut known: HashMap<SnapshotNo, (bool, bool)> = HashMap::new();
    let erasures = rooms.store().erasures().await?;
    let mut seen = Vec::with_capacity(events.len());
    for event in events {
        let visibility = event.visibility.unwrap_or(HistoryVisibility::Shared);
        let hidden = matches!(
            visibility,
            HistoryVisibility::Invited | HistoryVisibility::Joined
        );
        // State keeps what makes the room.
        let erased = erasures
            .of(event.pdu.sender())
            .filter(|_| event.pdu.state_key().is_none());
        let plain = !hidden && erased.is_none();
        if plain || event.pdu.sender().server_name() == server {
            seen.push(true);
            continue;
        }
        // Membership changes of its own users are its business, whenever they happened.
        let own = event.pdu.kind() == "m.room.member"
            && event
                .pdu
                .state_key()
                .and_then(|key| <&UserId>::try_from(key).ok())
                .is_some_and(|user| user.server_name() == server);
        let Some(at) = event.state_after.filter(|_| !own) else {
            seen.push(own);
            continue;
        };
        let (joined, invited) = if let Some(found) = known.get(&at) {
            *found
        } else {
            let found = members_of_server(rooms, server, at).await?;
            known.insert(at, found);
            found
        };
        let visible = !hidden || joined || (invited && visibility == HistoryVisibility::Invited);
        let whole = match erased {
            Some(upto) if visible && !joined => {
                let store = rooms.store();
                store.server_is_in_since(event.room, server, upto).await?
            }
            _ => visible,
        };
        seen.push(whole);
    }
    Ok(seen)
}

/// Whether a state has a joined, and an invited, user of the server.
async fn members_of_server(
    rooms: &Rooms,
    server: &ServerName,
    at: SnapshotNo,
) -> Result<(bool, bool)> {
    let store = rooms.store();
    let all = store.state_all(at).await?;
    let keys: Vec<_> = all.iter().map(|(key, _)| *key).collect();
    let mut nos: Vec<EventNo> = Vec::new();
    for (name, (_, event)) in store.keys(&keys).await?.iter().zip(&all) {
        let of_server = name.kind == "m.room.member"
            && <&UserId>::try_from(name.key.as_str())
                .is_ok_and(|user| user.server_name() == server);
        if of_server {
            nos.push(*event);
        }
    }
    let members = store.events_by_no(&nos).await?;
    let has = |wanted| {
        members
            .iter()
            .any(|event| event.pdu.membership() == Some(wanted))
    };
    Ok((has(Membership::Join), has(Membership::Invite)))
}

/// All state events of the room that the user may see.
pub async fn state(
    rooms: &Rooms,
    user: &UserId,
    room_id: &RoomId,
) -> Result<Vec<Arc<StoredEvent>>> {
    let seen = require_can_see_state(rooms, user, room_id).await?;
    state::events_at(rooms, seen.snapshot).await
}

/// One state event of the room.
///
/// # Errors
///
/// [`Error::NotFound`] if the state has no such entry.
pub async fn state_event(
    rooms: &Rooms,
    user: &UserId,
    room_id: &RoomId,
    kind: &str,
    state_key: &str,
) -> Result<Arc<StoredEvent>> {
    let seen = require_can_see_state(rooms, user, room_id).await?;
    rooms
        .store()
        .state_event(seen.snapshot, kind, state_key)
        .await?
        .ok_or_else(|| Error::NotFound(format!("The room has no {kind} with this state key")))
}
