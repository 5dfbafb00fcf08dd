//! Rooms that are joined before their members are known
//! ([ADR 27](../../../docs/adr/0027-joining-before-the-members-are-known.md)): asking for that, and for the rest afterwards
//! (`run`, `complete`).

mod complete;
mod run;

use std::collections::HashSet;

use rhizome_rooms::{access, admit::WithoutMembers};
use ruma::{OwnedServerName, RoomId, ServerName, UserId};

use crate::{Federation, MatrixError, outbound::answer::Pieces};

pub(crate) use run::run;

const MEMBER: &str = "m.room.member";

/// Whether a join of this room may be answered without its members: nobody here is to lose those that are known.
///
/// # Errors
/// The database's.
pub(crate) async fn may_begin(fed: &Federation, room_id: &RoomId) -> Result<bool, MatrixError> {
    if !fed.config().partial_joins {
        return Ok(false);
    }
    let head = fed.store().room(room_id).await?;
    Ok(head.is_none_or(|head| head.snapshot.is_none() || head.partial.is_some()))
}

/// What the answer to a join, that `server` gave, has instead of members. `candidates`: all servers that the user relies
/// on; `asked`: whether members might be left out.
///
/// # Errors
/// They are left out though nobody asked for it.
pub(crate) fn told(
    fed: &Federation,
    server: &ServerName,
    candidates: &[OwnedServerName],
    asked: bool,
    answer: &Pieces,
) -> Result<Option<WithoutMembers>, MatrixError> {
    if !answer.flag {
        return Ok(None);
    }
    if !asked {
        return Err(MatrixError::bad_gateway(
            "The other server has left out members of the room",
        ));
    }
    let mut seen = HashSet::new();
    let named = answer.names.iter();
    let named = named.filter_map(|name| serde_json::from_slice::<OwnedServerName>(name).ok());
    let servers = std::iter::once(server.to_owned()).chain(named);
    let servers = servers.filter(|name| *name != fed.server_name() && seen.insert(name.clone()));
    let mut relied_on = candidates.to_vec();
    relied_on.retain(|other| other != server);
    relied_on.insert(0, server.to_owned());
    Ok(Some(WithoutMembers {
        servers: servers.collect(),
        relied_on,
    }))
}

/// Whether the room isn't known in full, and nothing is known in it of this user but what users of other servers have
/// said since, who may not be there at all: others know whether they are banned, or invited.
///
/// # Errors
/// The database's.
pub(crate) async fn is_unknown(
    fed: &Federation,
    room_id: &RoomId,
    user: &UserId,
) -> Result<bool, MatrixError> {
    let store = fed.store();
    let Some(head) = store.room(room_id).await? else {
        return Ok(false);
    };
    let Some(join) = head.partial else {
        return Ok(false);
    };
    let Some(known) = store.known_user(user).await? else {
        return Ok(true);
    };
    let member = store.membership(known, head.room).await?;
    let Some(member) = member.and_then(|row| row.event) else {
        return Ok(true);
    };
    let event = store.event_by_no(member).await?;
    if event.is_some_and(|event| fed.rooms().is_local(event.pdu.sender())) {
        return Ok(false);
    }
    let join = store.event_by_no(join).await?;
    let told = match join.and_then(|join| join.state_before) {
        Some(at) => store.state_entry(at, MEMBER, user.as_str()).await?,
        None => None,
    };
    Ok(told != Some(member))
}

/// Who of these servers others of ours may come in by, and who else: where somebody here is in a room that isn't known in full,
/// those that are trusted with the rest alone. Others could let in whom the room has banned, as nobody here knows better.
///
/// # Errors
/// The database's.
pub(crate) async fn doors(
    fed: &Federation,
    room_id: &RoomId,
    mut named: Vec<OwnedServerName>,
) -> Result<Vec<OwnedServerName>, MatrixError> {
    if let Some(trusted) = trusted(fed, room_id).await? {
        named.retain(|server| trusted.contains(server));
        named.extend(trusted);
    }
    Ok(named)
}

/// Whether this server may be one of them, as things are now.
///
/// # Errors
/// The same.
pub(crate) async fn is_door(
    fed: &Federation,
    room_id: &RoomId,
    server: &ServerName,
) -> Result<bool, MatrixError> {
    let trusted = trusted(fed, room_id).await?;
    Ok(trusted.is_none_or(|trusted| trusted.iter().any(|door| door == server)))
}

async fn trusted(
    fed: &Federation,
    room_id: &RoomId,
) -> Result<Option<Vec<OwnedServerName>>, MatrixError> {
    let store = fed.store();
    let head = store.room(room_id).await?;
    let Some(head) = head.filter(|head| head.partial.is_some()) else {
        return Ok(None);
    };
    if !access::server_in_room(store, room_id, fed.server_name()).await? {
        return Ok(None);
    }
    let room = store.partial_room(head.room).await?;
    Ok(room.map(|room| room.ask))
}
