//! In which rooms is searched: those the reader is in or was in, and what these replaced.

use std::{cmp::Reverse, collections::HashSet};

use rhizome_protocol::Membership;
use rhizome_rooms::access::standing;
use rhizome_storage::{Pos, RoomNo, Store};
use ruma::{OwnedRoomId, RoomId};

use crate::{
    App, Caller, MatrixError,
    view::{filter::EventFilter, seen::reader},
};

/// Rooms that a filter may name.
const MOST_NAMED: usize = 1_000;
/// Rooms that one replaced, and that one replaced, and so on.
const MOST_REPLACED: usize = 20;

/// Rooms that the reader has left are searched so many, those left last.
const MOST_LEFT: usize = 30;

/// The rooms.
#[derive(Debug, Default)]
pub struct Searched {
    /// Those the reader is in.
    pub whole: Vec<RoomNo>,
    /// Those they have left, and when.
    pub left: Vec<(RoomNo, Pos)>,
}

/// The rooms. Of encrypted ones the server knows nothing that could be searched.
pub async fn searched(
    app: &App,
    who: &Caller,
    filter: &EventFilter,
) -> Result<Searched, MatrixError> {
    let store = &app.store;
    store.log().refresh().await?;
    let rows = store.memberships_of(who.user).await?;
    let own: HashSet<RoomNo> = rows
        .iter()
        .filter(|row| !row.forgotten)
        .map(|row| row.room)
        .collect();
    let wanted = wanted(store, filter, own).await?;
    let all: Vec<RoomNo> = wanted.iter().copied().collect();
    let summaries = store.room_summaries(&all).await?;
    let is_searched = |room: &RoomNo| {
        let summary = summaries.get(room).filter(|_| wanted.contains(room));
        summary.is_some_and(|summary| summary.encryption.is_none())
    };
    let mut searched = Searched::default();
    let mut left = Vec::new();
    for row in rows.iter().filter(|row| is_searched(&row.room)) {
        if row.membership == Membership::Join {
            searched.whole.push(row.room);
        } else {
            left.push((row.since, row.room));
        }
    }
    left.sort_unstable_by_key(|(since, _)| Reverse(*since));
    for (_, room) in left.into_iter().take(MOST_LEFT) {
        // Who is invited or has knocked may have been there before.
        let standing = standing(store, reader(who), room).await?;
        searched.left.extend(standing.left_at.map(|at| (room, at)));
    }
    Ok(searched)
}

/// Those of the reader's rooms that the filter lets through.
async fn wanted(
    store: &Store,
    filter: &EventFilter,
    own: HashSet<RoomNo>,
) -> Result<HashSet<RoomNo>, MatrixError> {
    let mut rooms = match &filter.rooms {
        Some(named) => with_replaced(store, named, &own).await?,
        None => own,
    };
    bounded(&filter.not_rooms)?;
    for id in &filter.not_rooms {
        if let Some(head) = store.room(id).await? {
            rooms.remove(&head.room);
        }
    }
    Ok(rooms)
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
) -> Result<HashSet<RoomNo>, MatrixError> {
    bounded(named)?;
    let mut rooms = HashSet::new();
    for id in named {
        let mut next = Some(id.clone());
        for _ in 0..=MOST_REPLACED {
            let Some(id) = next.take() else { break };
            let Some(head) = store.room(&id).await? else {
                break;
            };
            if !own.contains(&head.room) || !rooms.insert(head.room) {
                break;
            }
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
