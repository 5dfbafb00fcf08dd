//! A user's devices or their keys changed: the last time per user.

use std::sync::Arc;

use super::{Audience, Kind, Logged, LoggedKind, last_of_each};
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::{Pos, Result, Store, UserNo};

/// A user's devices or their keys changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceList {
    /// Whose.
    pub user: UserNo,
}

rows! {
    struct Row {
        user_no: UserNo,
        pos: i64,
    }
}

impl Kind for DeviceList {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let rows = last_of_each(
            facts,
            |list| list.user,
            |pos, list| Row {
                user_no: list.user,
                pos,
            },
        );
        statements.after(
            "INSERT INTO device_list (user_no, pos) SELECT user_no, pos + $2 FROM ROWS($1) AS x \
             WHERE true ON CONFLICT (user_no) DO UPDATE SET pos = excluded.pos",
            &rows,
        )
    }
}

impl LoggedKind for DeviceList {
    type Entry = Self;
    const TABLE: &'static str = "device_list";

    fn entry(&self) -> Self {
        *self
    }

    async fn at(store: &Store, positions: &[Pos]) -> Result<Vec<Arc<Logged<Self>>>> {
        let query = store
            .sql("SELECT pos, user_no FROM device_list WHERE pos IN NUMBERS($1)")
            .numbers(positions.iter().copied());
        let rows = store.rows(query).await?;
        let list = |row: &sqlx::any::AnyRow| {
            let fact = Self {
                user: row.get("user_no")?,
            };
            Ok(Logged::new(row.get("pos")?, fact))
        };
        rows.iter().map(list).collect()
    }

    fn audience(list: &Self) -> Audience {
        Audience::User(list.user)
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self { user: world.user }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        let devices = store.devices(world.user).await?;
        Ok(format!("{devices:?}"))
    }
}
