//! A room's history, page by page.

use std::sync::Arc;

use crate::{EventNo, KeyNo, Pos, Result, RoomNo, Store, StoredEvent};

/// A place between events: right after the event with this depth and order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistoryToken {
    /// The event's depth.
    pub depth: i64,
    /// Its order.
    pub order: i64,
}

impl HistoryToken {
    /// After everything.
    pub const END: Self = Self { depth: i64::MAX, order: i64::MAX };
    /// Before everything.
    pub const START: Self = Self { depth: i64::MIN, order: i64::MIN };
}

/// Which way to page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the past; starts with the event at the token.
    Backward,
    /// To the future; starts after the token.
    Forward,
}

impl Store {
    /// At most `limit` events of the room from the token on, in the direction's order, by (depth,
    /// order). Live events after `upto` are left out.
    pub async fn history(
        &self,
        _room: RoomNo,
        _from: HistoryToken,
        _direction: Direction,
        _limit: usize,
        _upto: Pos,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        unimplemented!()
    }

    /// The newest `limit` live events with `after < pos ≤ upto`, ascending by position.
    pub async fn room_timeline(
        &self,
        _room: RoomNo,
        _after: Pos,
        _upto: Pos,
        _limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        unimplemented!()
    }

    /// The changes of the room's current state with `after < pos ≤ upto`, ascending: position, entry,
    /// old and new event.
    pub async fn state_changes(
        &self,
        _room: RoomNo,
        _after: Pos,
        _upto: Pos,
    ) -> Result<Vec<(Pos, KeyNo, Option<EventNo>, Option<EventNo>)>> {
        unimplemented!()
    }
}
