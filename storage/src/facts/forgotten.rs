//! Rooms that users have forgotten after they left. What says so is `membership.forgotten`, which caches
//! hold; the rows here only tell other processes.

use std::sync::Arc;

use sqlx::any::AnyRow;

use super::{Audience, Kind, Logged, LoggedKind, last_of_each};
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::{Pos, Result, RoomNo, Store, UserNo};

/// A user forgets a room that they have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// Who.
    pub user: UserNo,
    /// What.
    pub room: RoomNo,
}

rows! {
    struct Row {
        user_no: UserNo,
        room: RoomNo,
        pos: i64,
    }
}

impl Kind for Forgotten {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let rows = last_of_each(
            facts,
            |forgotten| (forgotten.user, forgotten.room),
            |pos, forgotten| Row {
                user_no: forgotten.user,
                room: forgotten.room,
                pos,
            },
        );
        // Who left (3) or is banned (4).
        statements.after(
            "UPDATE membership SET forgotten = 1 WHERE membership IN (3, 4) \
             AND (user_no, room) IN (SELECT user_no, room FROM ROWS($1) AS x)",
            &rows,
        )?;
        statements.after(
            "INSERT INTO forgotten (user_no, room, pos) \
             SELECT user_no, room, pos + $2 FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (user_no, room) DO UPDATE SET pos = excluded.pos",
            &rows,
        )
    }

    fn forget(&self, store: &Store) {
        store.core.caches.memberships.remove(&self.user);
    }
}

impl LoggedKind for Forgotten {
    type Entry = Self;
    const TABLE: &'static str = "forgotten";
    const PURGE: Option<&'static str> = Some(
        "DELETE FROM forgotten WHERE pos IN \
         (SELECT pos FROM forgotten WHERE pos <= $1 ORDER BY pos LIMIT $2)",
    );

    fn entry(&self) -> Self {
        *self
    }

    async fn at(store: &Store, positions: &[Pos]) -> Result<Vec<Arc<Logged<Self>>>> {
        let query = store
            .sql("SELECT pos, user_no, room FROM forgotten WHERE pos IN NUMBERS($1)")
            .numbers(positions.iter().copied());
        store.rows(query).await?.iter().map(read).collect()
    }

    fn audience(_: &Self) -> Audience {
        Audience::Nobody
    }

    fn forget_read(forgotten: &Self, store: &Store) {
        forgotten.forget(store);
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

fn read(row: &AnyRow) -> Result<Arc<Logged<Forgotten>>> {
    let fact = Forgotten {
        user: row.get("user_no")?,
        room: row.get("room")?,
    };
    Ok(Logged::new(row.get("pos")?, fact))
}
