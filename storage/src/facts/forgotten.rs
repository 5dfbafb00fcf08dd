//! Rooms that users have forgotten after they left. What says so is `membership.forgotten`, which caches
//! hold; the rows here only tell other processes.

use super::table::table;
use super::{Audience, Kind, LoggedKind};
use crate::engine::sql::statement::Statements;
use crate::{Result, RoomNo, Store, UserNo};

table! {
    /// A user forgets a room that they have left.
    #[derive(Copy)]
    pub struct Forgotten in forgotten {
        key {
            /// Who.
            user: UserNo = user_no,
            /// What.
            room: RoomNo = room,
        }
    }
}

impl Kind for Forgotten {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        // Who left (3) or is banned (4).
        statements.after(
            "UPDATE membership SET forgotten = 1 WHERE membership IN (3, 4) \
             AND (user_no, room) IN (SELECT user_no, room FROM ROWS($1) AS x)",
            &facts
                .iter()
                .map(|(pos, fact)| Self::row(*pos, fact))
                .collect::<Vec<_>>(),
        )?;
        Self::put(facts, statements)
    }
}

impl LoggedKind for Forgotten {
    type Entry = Self;
    const TELLS: bool = true;

    fn entry(&self) -> Self {
        *self
    }

    fn audience(_: &Self) -> Audience {
        Audience::Nobody
    }

    fn forget(forgotten: &Self, store: &Store) {
        store.core.caches.memberships.remove(&forgotten.user);
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self {
            user: world.user,
            room: world.left,
        }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        let memberships = store.memberships_of(world.user).await?;
        Ok(format!("{memberships:?}"))
    }
}
