//! A user's devices or their keys changed: the last time per user.

use super::table::table;
use super::{Audience, Kind, LoggedKind};
use crate::engine::sql::statement::Statements;
use crate::{Result, UserNo};

table! {
    /// A user's devices or their keys changed.
    #[derive(Copy)]
    pub struct DeviceList in device_list {
        key {
            /// Whose.
            user: UserNo = user_no,
        }
    }
}

impl Kind for DeviceList {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        Self::put(facts, statements)
    }
}

impl LoggedKind for DeviceList {
    type Entry = Self;

    fn entry(&self) -> Self {
        *self
    }

    fn audience(list: &Self) -> Audience {
        Audience::User(list.user)
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self { user: world.user }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &crate::Store) -> Result<String> {
        let devices = store.devices(world.user).await?;
        Ok(format!("{devices:?}"))
    }
}
