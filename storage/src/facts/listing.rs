//! Rooms in this server's public directory. What says so is `room.public`, which caches hold; the rows here
//! only tell other processes.

use std::sync::Arc;

use sqlx::any::AnyRow;

use super::{Audience, Kind, Logged, LoggedKind, last_of_each};
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::rooms::heads::RoomHead;
use crate::{Pos, Result, RoomNo, Store};

/// Whether a room is in this server's public directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    /// The room.
    pub room: RoomNo,
    /// Whether it is listed.
    pub public: bool,
}

rows! {
    struct Row {
        room: RoomNo,
        public: bool,
        pos: i64,
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
        let rows = last_of_each(
            facts,
            |listing| listing.room,
            |pos, listing| Row {
                room: listing.room,
                public: listing.public,
                pos,
            },
        );
        statements.after(
            "INSERT INTO listing (room, public, pos) \
             SELECT room, public, pos + $2 FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (room) DO UPDATE SET public = excluded.public, pos = excluded.pos",
            &rows,
        )
    }
}

impl LoggedKind for Listing {
    type Entry = Self;
    const TABLE: &'static str = "listing";
    const PURGE: Option<&'static str> = Some(
        "DELETE FROM listing WHERE pos IN \
         (SELECT pos FROM listing WHERE pos <= $1 ORDER BY pos LIMIT $2)",
    );

    fn entry(&self) -> Self {
        *self
    }

    async fn at(store: &Store, positions: &[Pos]) -> Result<Vec<Arc<Logged<Self>>>> {
        let query = store
            .sql("SELECT pos, room, public FROM listing WHERE pos IN NUMBERS($1)")
            .numbers(positions.iter().copied());
        store.rows(query).await?.iter().map(read).collect()
    }

    fn audience(_: &Self) -> Audience {
        Audience::Nobody
    }

    fn forget_read(listing: &Self, store: &Store) {
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

fn read(row: &AnyRow) -> Result<Arc<Logged<Listing>>> {
    let fact = Listing {
        room: row.get("room")?,
        public: row.get("public")?,
    };
    Ok(Logged::new(row.get("pos")?, fact))
}
