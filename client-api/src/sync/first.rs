//! What a first answer tells of every room, read for many rooms at a time: a query for each room would be
//! most of what such an answer costs.

use std::{collections::HashMap, sync::Arc};

use rhizome_storage::{Pos, Receipt, RoomNo, Store, StoredEvent};

use crate::MatrixError;

/// Rooms per query.
const ROOMS: usize = 200;

/// The newest events and the receipts of some rooms, up to a position.
#[derive(Debug, Default)]
pub struct FirstLook {
    /// How many events were asked for.
    size: usize,
    timelines: HashMap<RoomNo, Vec<Arc<StoredEvent>>>,
    receipts: HashMap<RoomNo, Vec<Arc<Receipt>>>,
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

    /// The room's newest events, and whether these are all.
    pub fn timeline(&self, room: RoomNo) -> (&[Arc<StoredEvent>], bool) {
        let events = self.timelines.get(&room).map_or(&[][..], Vec::as_slice);
        (events, events.len() < self.size)
    }

    /// The room's receipts.
    pub fn receipts(&self, room: RoomNo) -> &[Arc<Receipt>] {
        self.receipts.get(&room).map_or(&[][..], Vec::as_slice)
    }
}
