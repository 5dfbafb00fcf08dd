//! Whether there is a room for a user, and which part of it.

use std::sync::Arc;

use rhizome_protocol::visibility::HistoryVisibility;
use rhizome_storage::{Pos, RoomHead, SnapshotNo, Store, StoredEvent};
use ruma::RoomId;

use super::{Reader, Standing, standing};
use crate::{Error, error::Result};

/// A room that a user may read: they are in it, or were, or anybody may.
#[derive(Debug, Clone)]
pub struct RoomAccess {
    /// The room.
    pub head: Arc<RoomHead>,
    /// Where the reader stands.
    pub standing: Standing,
    /// Its state as they may see it: as of now, or as of when they left.
    pub state: SnapshotNo,
    /// Whether the room as it is now is theirs to see, not only as it was when they left.
    is_open: bool,
}

impl RoomAccess {
    /// The room, for a user who may read any of it.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] if they never were in the room (or have forgotten it) and it isn't world-readable; also
    /// for rooms that don't exist: the two must look the same.
    pub async fn of(store: &Store, reader: Reader<'_>, room_id: &RoomId) -> Result<RoomAccess> {
        // What another process has answered is known here too.
        store.log().refresh().await?;
        let head = store.room(room_id).await?.ok_or_else(denied)?;
        let current = head.snapshot.ok_or_else(denied)?;
        let standing = standing(store, reader, head.room).await?;
        let is_open = standing.is_member() || is_world_readable(store, current).await?;
        let state = if is_open {
            current
        } else {
            standing.left_state.ok_or_else(denied)?
        };
        Ok(RoomAccess {
            head,
            standing,
            state,
            is_open,
        })
    }

    /// The room, for a user who is joined.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] otherwise, also for rooms that don't exist.
    pub async fn of_member(
        store: &Store,
        reader: Reader<'_>,
        room_id: &RoomId,
    ) -> Result<RoomAccess> {
        let access = RoomAccess::of(store, reader, room_id).await?;
        if access.standing.is_member() {
            Ok(access)
        } else {
            Err(denied())
        }
    }

    /// The room, for an operator, who may read all of it; `None` while nothing is known of its state.
    pub fn of_operator(head: Arc<RoomHead>) -> Option<RoomAccess> {
        Some(RoomAccess {
            state: head.snapshot?,
            head,
            standing: Standing::OPERATOR,
            is_open: true,
        })
    }

    /// Whether the reader may hear of what is there now: they are in the room, or everybody may.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// The last position of which the reader may hear.
    pub fn end(&self, store: &Store) -> Pos {
        let head = store.log().head();
        match self.standing.left_at {
            Some(left) if !self.is_open => left.min(head),
            _ => head,
        }
    }

    /// Beyond which depth the reader may see events that we have without their place in the history, and so without the
    /// state at them: those since a visibility was set under which members see everything. `None`: none.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn unplaced_from(&self, store: &Store) -> Result<Option<i64>> {
        if !self.standing.is_member() {
            return Ok(None);
        }
        let event = visibility_event(store, self.state).await?;
        let visibility = HistoryVisibility::of(event.as_ref().map(|event| event.pdu.content()));
        let is_open = matches!(
            visibility,
            HistoryVisibility::WorldReadable | HistoryVisibility::Shared
        );
        // Without one it has been so from the beginning.
        Ok(is_open.then(|| event.map_or(i64::MIN, |event| event.depth)))
    }

    /// Whether more may come after `end`, the last position of which the reader may hear.
    pub fn goes_on(&self, end: Pos) -> bool {
        self.standing.is_member() || self.standing.left_at.is_none_or(|left| left < end)
    }
}

fn denied() -> Error {
    Error::Denied("You aren't a member of the room".into())
}

async fn visibility_event(store: &Store, state: SnapshotNo) -> Result<Option<Arc<StoredEvent>>> {
    Ok(store
        .state_event(state, "m.room.history_visibility", "")
        .await?)
}

async fn is_world_readable(store: &Store, state: SnapshotNo) -> Result<bool> {
    let event = visibility_event(store, state).await?;
    let visibility = HistoryVisibility::of(event.as_ref().map(|event| event.pdu.content()));
    Ok(visibility == HistoryVisibility::WorldReadable)
}
