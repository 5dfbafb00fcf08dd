//! What other servers may see of a room.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rhizome_protocol::Membership;
use rhizome_storage::{EventNo, KeyNo, Pos, SnapshotNo, Status, Store, StoredEvent};
use ruma::{RoomId, ServerName, UserId};

use super::rule::{self, Present};
use crate::error::Result;

/// Whether the server has a joined user in the room.
///
/// # Errors
///
/// Those of the database.
pub async fn server_in_room(store: &Store, room_id: &RoomId, server: &ServerName) -> Result<bool> {
    let Some(head) = store.room(room_id).await? else {
        return Ok(false);
    };
    let servers = store.joined_servers(head.room).await?;
    Ok(servers.iter().any(|other| other == server))
}

/// Whether an event is given to servers at all. A rejected one is nobody's history; one that failed softly other
/// servers may have accepted, and build on.
pub fn is_given(event: &StoredEvent) -> bool {
    event.status != Status::Rejected
}

/// Whether each of the events, which are all of one room, may be shown to a server that is in the room:
/// where the history was for members only, one of its users must have been a member at the event. What a user
/// sent whose content is erased, it must have been able to see before that.
///
/// # Errors
///
/// Those of the database.
pub async fn events_for_server(
    store: &Store,
    server: &ServerName,
    events: &[Arc<StoredEvent>],
) -> Result<Vec<bool>> {
    let erasures = store.erasures().await?;
    let erased = |event: &StoredEvent| {
        let upto = erasures.of(event.pdu.sender());
        upto.filter(|_| rule::loses_content(event) && !rule::is_of(event, server))
    };
    let mut states: Vec<SnapshotNo> = events
        .iter()
        .filter(|event| !rule::is_open_to(event, server) || erased(event).is_some())
        .filter_map(|event| event.state_after)
        .collect();
    states.sort_unstable();
    states.dedup();
    let present = present(store, server, &states).await?;
    let said = said_to_be_in_since(store, server, events).await?;
    let mut came: HashMap<Pos, bool> = HashMap::new();
    let mut seen = Vec::with_capacity(events.len());
    for event in events {
        let there = event.state_after.and_then(|at| present.get(&at)).copied();
        let mut there = there.unwrap_or_default();
        there.joined |= event
            .pos()
            .is_some_and(|pos| said.is_some_and(|said| said <= pos));
        let mut whole = rule::for_server(event, server, there);
        if let Some(upto) = erased(event).filter(|_| whole && !there.joined) {
            whole = match came.get(&upto) {
                Some(known) => *known,
                None => store.server_is_in_since(event.room, server, upto).await?,
            };
            came.insert(upto, whole);
        }
        seen.push(whole);
    }
    Ok(seen)
}

/// Since when a server counts as being in the events' room because it was said so: all that came since we joined goes to it.
async fn said_to_be_in_since(
    store: &Store,
    server: &ServerName,
    events: &[Arc<StoredEvent>],
) -> Result<Option<Pos>> {
    let Some(event) = events.first() else {
        return Ok(None);
    };
    let head = store.room_by_no(event.room).await?;
    let Some(join) = head.and_then(|head| head.partial) else {
        return Ok(None);
    };
    if !store.is_said_to_be_in(server, Some(event.room)).await? {
        return Ok(None);
    }
    let join = store.event_by_no(join).await?;
    Ok(join.and_then(|join| join.pos()))
}

/// Who of the server is in each of some states of a room. One is read as a whole, of the others what differs.
async fn present(
    store: &Store,
    server: &ServerName,
    states: &[SnapshotNo],
) -> Result<HashMap<SnapshotNo, Present>> {
    let Some((first, others)) = states.split_first() else {
        return Ok(HashMap::new());
    };
    let all = store.state_all(*first).await?;
    let differences = store.state_diffs(*first, others).await?;
    let mut keys: Vec<KeyNo> = all.iter().map(|(key, _)| *key).collect();
    keys.extend(differences.iter().flatten().map(|(key, _, _)| *key));
    keys.sort_unstable();
    keys.dedup();
    let names = store.keys(&keys).await?;
    let is_member = |index: usize| {
        let name = &names[index];
        name.kind == "m.room.member"
            && <&UserId>::try_from(name.key.as_str()).is_ok_and(|user| user.server_name() == server)
    };
    let of_server = |key: KeyNo| keys.binary_search(&key).is_ok_and(is_member);

    let at_first: BTreeMap<KeyNo, EventNo> =
        all.into_iter().filter(|(key, _)| of_server(*key)).collect();
    let mut members = vec![(*first, at_first.clone())];
    for (state, difference) in others.iter().zip(differences) {
        let mut at = at_first.clone();
        for (key, _, event) in difference.into_iter().filter(|(key, ..)| of_server(*key)) {
            match event {
                Some(event) => at.insert(key, event),
                None => at.remove(&key),
            };
        }
        members.push((*state, at));
    }
    let told = memberships(store, &members).await?;
    let has = |at: &BTreeMap<KeyNo, EventNo>, wanted| {
        at.values().any(|event| told.get(event) == Some(&wanted))
    };
    let present = members.iter().map(|(state, at)| {
        let present = Present {
            joined: has(at, Membership::Join),
            invited: has(at, Membership::Invite),
        };
        (*state, present)
    });
    Ok(present.collect())
}

async fn memberships(
    store: &Store,
    members: &[(SnapshotNo, BTreeMap<KeyNo, EventNo>)],
) -> Result<HashMap<EventNo, Membership>> {
    let mut nos: Vec<EventNo> = members
        .iter()
        .flat_map(|(_, at)| at.values().copied())
        .collect();
    nos.sort_unstable();
    nos.dedup();
    let events = store.events_by_no(&nos).await?;
    Ok(events
        .iter()
        .filter_map(|event| Some((event.no, event.pdu.membership()?)))
        .collect())
}
