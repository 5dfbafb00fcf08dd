//! Application services that the operator wants to be told nothing for a while.

use super::table::table;
use super::{Audience, Kind, LoggedKind};
use crate::Result;
use crate::engine::sql::statement::Statements;

table! {
    /// The operator pauses an application service, or lets it go on: then it is also tried again at once.
    pub struct AppservicePause in appservice_pause {
        key {
            /// Which: the id of its registration.
            id: String = id,
        }
        /// Whether it is told nothing.
        paused: bool = paused,
    }
}

impl Kind for AppservicePause {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        Self::put(facts, statements)
    }
}

impl LoggedKind for AppservicePause {
    type Entry = Self;

    fn entry(&self) -> Self {
        self.clone()
    }

    fn audience(_: &Self) -> Audience {
        Audience::Nobody
    }

    #[cfg(test)]
    fn sample(_: &super::tests::World) -> Self {
        Self {
            id: "irc".into(),
            paused: true,
        }
    }

    #[cfg(test)]
    async fn view(_: &super::tests::World, store: &crate::Store) -> Result<String> {
        Ok(format!("{:?}", store.paused_services().await?))
    }
}
