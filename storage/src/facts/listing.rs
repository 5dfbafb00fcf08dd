//! Rooms in this server's public directory. What says so is `room.public`, which caches hold; the rows here
//! only tell other processes.

use super::table::table;
use super::{Audience, Kind, LoggedKind};
use crate::engine::sql::statement::Statements;
use crate::rooms::heads::RoomHead;
use crate::{Result, RoomNo, Store};

table! {
    /// Whether a room is in this server's public directory.
    #[derive(Copy)]
    pub struct Listing in listing {
        key {
            /// The room.
            room: RoomNo = room,
        }
        /// Whether it is listed.
        public: bool = public,
    }
}

impl Kind for Listing {
    type Basis = ();

    fn room_row(&self) -> Option<RoomNo> {
        Some(self.room)
    }

    fn change_room(&self, head: &mut RoomHead) {
        head.public = self.public;
    }

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        Self::put(facts, statements)
    }
}

impl LoggedKind for Listing {
    type Entry = Self;
    const TELLS: bool = true;

    fn entry(&self) -> Self {
        *self
    }

    fn audience(_: &Self) -> Audience {
        Audience::Nobody
    }

    /// Of the process that wrote it as well, though it knows better: a change of the directory is rare.
    fn forget(listing: &Self, store: &Store) {
        store.core.caches.rooms.remove(&listing.room);
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self {
            room: world.room,
            public: true,
        }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        let head = store.room_by_no(world.room).await?;
        Ok(format!("{:?}", head.map(|head| head.public)))
    }
}
