//! What a first answer tells of every room, read for many rooms at a time: a query for each room would be
//! most of what such an answer costs.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_storage::{EventNo, Logged, Pos, Receipt, RoomNo, Store, StoredEvent};
use ruma::UserId;

use crate::MatrixError;

/// Rooms per query.
const ROOMS: usize = 200;

/// The newest events and the receipts of some rooms, up to a position.
#[derive(Debug, Default)]
pub struct FirstLook {
    /// How many events were asked for.
    size: usize,
    timelines: HashMap<RoomNo, Vec<Arc<StoredEvent>>>,
    receipts: HashMap<RoomNo, Vec<Arc<Logged<Receipt>>>>,
    put_out: HashSet<RoomNo>,
}

impl FirstLook {
    /// Reads the newest `size` events of each room, and all receipts.
    pub async fn read(
        store: &Store,
        rooms: &[RoomNo],
        upto: Pos,
        size: usize,
    ) -> Result<Self, MatrixError> {
        let mut look = Self {
            size,
            ..Self::default()
        };
        for rooms in rooms.chunks(ROOMS) {
            for event in store.room_timelines(rooms, upto, size).await? {
                look.timelines.entry(event.room).or_default().push(event);
            }
            for receipt in store.receipts_in_rooms(rooms, upto).await? {
                look.receipts.entry(receipt.room).or_default().push(receipt);
            }
        }
        Ok(look)
    }

    /// Notes which stays somebody else than `reader` has ended, by the events that ended them.
    pub async fn note_ends(
        &mut self,
        store: &Store,
        reader: &UserId,
        ends: &[EventNo],
    ) -> Result<(), MatrixError> {
        let ends = store.events_by_no(ends).await?;
        let by_others = ends.iter().filter(|end| end.pdu.sender() != reader);
        self.put_out.extend(by_others.map(|end| end.room));
        Ok(())
    }

    /// Whether somebody else ended the reader's stay in the room, or invite: a client that starts has to
    /// learn of that like one that was listening. Where the reader left themselves, they know.
    pub fn was_put_out(&self, room: RoomNo) -> bool {
        self.put_out.contains(&room)
    }

    /// The room's newest events, and whether these are all.
    pub fn timeline(&self, room: RoomNo) -> (&[Arc<StoredEvent>], bool) {
        let events = self.timelines.get(&room).map_or(&[][..], Vec::as_slice);
        (events, events.len() < self.size)
    }

    /// The room's receipts.
    pub fn receipts(&self, room: RoomNo) -> &[Arc<Logged<Receipt>>] {
        self.receipts.get(&room).map_or(&[][..], Vec::as_slice)
    }
}
