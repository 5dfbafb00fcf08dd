//! The state before an event without its members, for a server that asks for no more at once
//! (<https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>, `omit_members`).
//!
//! A snapshot is a tree by mixed numbers, in which the few entries that are no members lie among all that are: to look
//! for them there would be to look at everything. Which entries there are is known from the current state, whose rows
//! keep members apart, and what is different now is in the difference of the two states; so each entry of then is
//! looked up by itself.

use std::collections::BTreeSet;

use rhizome_storage::{EventNo, KeyNo, RoomNo, SnapshotNo, Store, StoredEvent};
use ruma::OwnedUserId;

use super::{StateBefore, auth_chain, chain_of, sorted};
use crate::{Rooms, error::Result};

/// The state before a stored event with the memberships of `members` alone, and the auth chain of that and of the event
/// itself, without what the state has already. `None` if the state there isn't known (an outlier).
pub async fn before_without_members(
    rooms: &Rooms,
    event: &StoredEvent,
    members: &[OwnedUserId],
) -> Result<Option<StateBefore>> {
    let Some(at) = event.state_before else {
        return Ok(None);
    };
    let store = rooms.store();
    let mut keys = plain_keys(store, event.room, at).await?;
    let names: Vec<_> = members
        .iter()
        .map(|user| ("m.room.member", user.as_str()))
        .collect();
    keys.extend(store.known_keys(&names).await?.into_iter().flatten());
    let found = store.state_lookup(at, &keys).await?;
    let mut state: Vec<EventNo> = found.into_iter().flatten().collect();
    state.sort_unstable();
    state.dedup();
    let mut chain = chain_of(rooms, &state).await?;
    // The event rests on members of whom the state doesn't tell: who invited, or let the user in.
    chain.extend(auth_chain(rooms, event).await?);
    for told in &state {
        chain.remove(told);
    }
    Ok(Some(StateBefore {
        state,
        auth_chain: sorted(chain),
    }))
}

/// The entries, members apart, that a state of the room may have.
async fn plain_keys(store: &Store, room: RoomNo, at: SnapshotNo) -> Result<Vec<KeyNo>> {
    let current = store.current_without_members(&[room]).await?;
    let mut keys: BTreeSet<KeyNo> = current.into_iter().map(|(_, (key, _), _)| key).collect();
    // What was read may be ahead of the head that is remembered, never behind: what is gone since then must be found in
    // the difference.
    store.log().refresh().await?;
    let head = store.room_by_no(room).await?;
    if let Some(now) = head.and_then(|head| head.snapshot) {
        let differing = store.state_diff(at, now).await?;
        keys.extend(differing.into_iter().map(|(key, ..)| key));
    }
    let mut keys: Vec<KeyNo> = keys.into_iter().collect();
    let names = store.keys(&keys).await?;
    let mut is_plain = names.iter().map(|name| name.kind != "m.room.member");
    keys.retain(|_| is_plain.next() == Some(true));
    Ok(keys)
}
