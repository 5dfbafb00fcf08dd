//! A room that was joined before its members were known is complete. Its members come as given, with no entries of their own:
//! readers who have told of the room look at them anew.

use super::table::table;
use super::{Audience, Kind, LoggedKind};
use crate::engine::sql::statement::Statements;
use crate::{Result, RoomNo, Store};

table! {
    /// All members of a room that was joined before they were known are known.
    #[derive(Copy)]
    pub struct MembersKnown in members_known {
        key {
            /// The room.
            room: RoomNo = room,
        }
    }
}

impl Kind for MembersKnown {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        Self::put(facts, statements)
    }
}

impl LoggedKind for MembersKnown {
    type Entry = Self;

    fn entry(&self) -> Self {
        *self
    }

    fn audience(known: &Self) -> Audience {
        Audience::Room(known.room)
    }

    fn room(known: &Self) -> Option<RoomNo> {
        Some(known.room)
    }

    /// What is said of its events and members, the log forgets in other processes.
    fn forget(known: &Self, store: &Store) {
        store.core.caches.joined_servers.remove(&known.room);
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self { room: world.room }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        let known = store.members_known(&[world.room]).await?;
        Ok(format!("{:?}", !known.is_empty()))
    }
}
