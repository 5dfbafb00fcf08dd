//! Rooms, known to us or merely heard of.

use std::collections::HashMap;

use ruma::{OwnedRoomId, RoomId};

use super::{Name, only};
use crate::engine::sql::{Columns as _, Query, ReadRow};
use crate::{Error, Result, RoomNo, Store};

impl Name for OwnedRoomId {
    type No = RoomNo;
    const OF_NUMBERS: &'static str = "SELECT no, room_id FROM room WHERE no IN NUMBERS($1)";

    fn find(store: &Store, names: &[&Self]) -> Query {
        store
            .sql("SELECT no, room_id FROM room WHERE room_id IN TEXTS($1)")
            .texts(names.iter().copied())
    }

    fn read(row: &ReadRow) -> Result<Self> {
        row.get("room_id")
    }
}

impl Store {
    /// The room's number, given now if it has none: for rooms that we hear of. A room of our own
    /// gets [`Store::next_room_no`].
    pub async fn room_no(&self, room: &RoomId) -> Result<RoomNo> {
        if let Some(no) = self.known_room(room).await? {
            return Ok(no);
        }
        let query = self
            .sql(
                "INSERT INTO room (no, room_id, state_version, extremities, joined, invited, public, \
                 last_pos) VALUES ($1, $2, 0, '[]', 0, 0, 0, 0) ON CONFLICT (room_id) DO NOTHING",
            )
            .bind(self.next_room_no().await?)
            .bind(room);
        self.execute(query).await?;
        let known = self.known_room(room).await?;
        known.ok_or_else(|| Error::broken("a name was inserted and isn't there"))
    }

    /// The room's number, if it has one.
    pub async fn known_room(&self, room: &RoomId) -> Result<Option<RoomNo>> {
        if let Some(no) = self.core.caches.room_ids.get(room) {
            return Ok(Some(no));
        }
        let found = self
            .numbers(&self.core.caches.room_ids, &[room.to_owned()])
            .await?;
        Ok(found.into_values().next())
    }

    /// The numbers of those rooms that have one.
    pub async fn known_rooms(&self, rooms: &[OwnedRoomId]) -> Result<HashMap<OwnedRoomId, RoomNo>> {
        self.numbers(&self.core.caches.room_ids, rooms).await
    }

    /// The id of the room with this number.
    pub async fn room_id(&self, no: RoomNo) -> Result<OwnedRoomId> {
        match self.core.caches.room_names.get(&no) {
            Some(room) => Ok(room),
            None => only(self.room_ids(&[no]).await?),
        }
    }

    /// The ids of the rooms with these numbers, in their order.
    pub async fn room_ids(&self, nos: &[RoomNo]) -> Result<Vec<OwnedRoomId>> {
        let cache = &self.core.caches.room_names;
        self.names(cache, nos, |room: OwnedRoomId| room).await
    }
}
