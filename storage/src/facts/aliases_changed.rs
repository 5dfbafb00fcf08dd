//! The aliases of a room are others. What is so stands in `room_alias`; the rows here only tell.

use ruma::RoomAliasId;

use super::table::table;
use super::{Audience, Kind, LoggedKind};
use crate::engine::sql::Columns as _;
use crate::engine::sql::statement::Statements;
use crate::{CommitError, Error, Result, RoomNo, Store};

table! {
    /// A room of this server has got an alias, or lost one.
    #[derive(Copy)]
    pub struct AliasesChanged in aliases_changed {
        key {
            /// Which.
            room: RoomNo = room,
        }
    }
}

impl Kind for AliasesChanged {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        Self::put(facts, statements)
    }
}

impl LoggedKind for AliasesChanged {
    type Entry = Self;
    const TELLS: bool = true;

    fn entry(&self) -> Self {
        *self
    }

    fn audience(_: &Self) -> Audience {
        Audience::Nobody
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self { room: world.room }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        Ok(format!("{:?}", store.aliases_of(world.room).await?))
    }
}

impl Store {
    /// Removes an alias, and tells who looks at aliases; `false` if there was none.
    pub async fn delete_alias(&self, alias: &RoomAliasId) -> Result<bool> {
        let query = self
            .sql("DELETE FROM room_alias WHERE alias = $1 RETURNING room")
            .bind(alias);
        let rows = self.execute_returning(query).await?;
        let Some(row) = rows.first() else {
            return Ok(false);
        };
        let changed = AliasesChanged {
            room: row.get("room")?,
        };
        match self.commit(vec![changed.into()].into()).await {
            Ok(_) => Ok(true),
            Err(CommitError::Store(error)) => Err(error),
            Err(other) => Err(Error::broken(other.to_string())),
        }
    }
}
