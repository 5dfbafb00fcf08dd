//! What the sender of events to other servers reads.
//!
//! The commit that stores an event with [`NewEvent::send_to`](crate::NewEvent::send_to) writes, in one
//! transaction with it, a row of `outbound` (position, room, event, destination set) and moves
//! `destination_room` (destination, room → last position that it must get). So a destination has
//! something to get exactly where `last_pos` is greater than what the sender has noted as sent.

use std::sync::Arc;

use ruma::{OwnedServerName, ServerName};

use crate::{Pos, Result, RoomNo, Store, StoredEvent};

/// An event that must be sent.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Its position.
    pub pos: Pos,
    /// The event.
    pub event: Arc<StoredEvent>,
    /// All servers that must get it.
    pub destinations: Arc<[OwnedServerName]>,
}

/// How far a destination must get in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestinationRoom {
    /// The room.
    pub room: RoomNo,
    /// The position of the last event that it must get.
    pub last_pos: Pos,
}

impl Store {
    /// Events to send with `after < pos ≤ upto`, to any destination, ascending, at most `limit`.
    pub async fn outbound(&self, _after: Pos, _upto: Pos, _limit: usize) -> Result<Vec<Outbound>> {
        unimplemented!()
    }
    /// Events to send to one destination with `after < pos ≤ upto`, ascending, at most `limit`.
    pub async fn outbound_to(
        &self,
        _destination: &ServerName,
        _after: Pos,
        _upto: Pos,
        _limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        unimplemented!()
    }
    /// The rooms in which the destination must get something after `after`, by last position.
    pub async fn destination_rooms(
        &self,
        _destination: &ServerName,
        _after: Pos,
        _limit: usize,
    ) -> Result<Vec<DestinationRoom>> {
        unimplemented!()
    }
    /// Destinations that must get something after `after`, with the last position of each.
    pub async fn destinations_after(&self, _after: Pos) -> Result<Vec<(OwnedServerName, Pos)>> {
        unimplemented!()
    }
}
