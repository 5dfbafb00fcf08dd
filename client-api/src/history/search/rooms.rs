//! In which rooms is searched: those the reader is in or was in, and what these replaced.

use std::collections::HashSet;

use rhizome_storage::{RoomNo, Store};
use ruma::{OwnedRoomId, RoomId};

use crate::{
    App, MatrixError,
    view::{filter::EventFilter, seen::Viewer},
};

/// Rooms that a filter may name.
const MOST_NAMED: usize = 1_000;
/// Rooms that one replaced, and that one replaced, and so on.
const MOST_REPLACED: usize = 20;

/// The rooms. Of encrypted ones the server knows nothing that could be searched.
pub async fn searched(
    app: &App,
    viewer: &Viewer,
    filter: &EventFilter,
) -> Result<Vec<RoomNo>, MatrixError> {
    let store = &app.store;
    store.log().refresh().await?;
    let rows = store.memberships_of(viewer.user).await?;
    // Who is invited or has knocked may have been there before: that is seen room by room.
    let was_there = rows.iter().filter(|row| !row.forgotten);
    let mut rooms: Vec<RoomNo> = was_there.map(|row| row.room).collect();
    if let Some(named) = &filter.rooms {
        let own: HashSet<RoomNo> = rooms.into_iter().collect();
        rooms = with_replaced(store, named, &own).await?;
    }
    if !filter.not_rooms.is_empty() {
        bounded(&filter.not_rooms)?;
        let mut not = HashSet::new();
        for id in &filter.not_rooms {
            not.extend(store.room(id).await?.map(|head| head.room));
        }
        rooms.retain(|room| !not.contains(room));
    }
    let summaries = store.room_summaries(&rooms).await?;
    let plain = summaries
        .iter()
        .filter(|(_, summary)| summary.encryption.is_none());
    Ok(plain.map(|(room, _)| *room).collect())
}

fn bounded(named: &[OwnedRoomId]) -> Result<(), MatrixError> {
    if named.len() > MOST_NAMED {
        let message = format!("filter: it may name {MOST_NAMED} rooms at most");
        return Err(MatrixError::invalid_param(message));
    }
    Ok(())
}

/// Those of the named rooms that are the reader's, and of theirs those that were replaced by them.
async fn with_replaced(
    store: &Store,
    named: &[OwnedRoomId],
    own: &HashSet<RoomNo>,
) -> Result<Vec<RoomNo>, MatrixError> {
    bounded(named)?;
    let mut rooms = Vec::new();
    for id in named {
        let mut next = Some(id.clone());
        for _ in 0..=MOST_REPLACED {
            let Some(id) = next.take() else { break };
            let Some(head) = store.room(&id).await? else {
                break;
            };
            if !own.contains(&head.room) || rooms.contains(&head.room) {
                break;
            }
            rooms.push(head.room);
            if let Some(state) = head.snapshot {
                let create = store.state_event(state, "m.room.create", "").await?;
                next = create.and_then(|create| {
                    let before = create.pdu.content().get("predecessor")?.get("room_id")?;
                    <&RoomId>::try_from(before.as_str()?)
                        .map(ToOwned::to_owned)
                        .ok()
                });
            }
        }
    }
    Ok(rooms)
}
