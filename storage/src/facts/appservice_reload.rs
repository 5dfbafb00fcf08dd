//! The operator wants the registrations of application services to be read again, by every process.

use tokio::sync::watch;

use super::table::table;
use super::{Audience, Kind, LoggedKind};
use crate::engine::sql::statement::Statements;
use crate::{Result, Store};

table! {
    /// The registrations of application services are to be read again.
    #[derive(Copy)]
    pub struct AppserviceReload in appservice_reload {
        /// When that was said, in milliseconds since 1970.
        asked_ms: i64 = asked_ms,
    }
}

impl Kind for AppserviceReload {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        Self::put(facts, statements)
    }
}

impl LoggedKind for AppserviceReload {
    type Entry = Self;
    const TELLS: bool = true;

    fn entry(&self) -> Self {
        *self
    }

    fn audience(_: &Self) -> Audience {
        Audience::Nobody
    }

    fn forget(_: &Self, store: &Store) {
        store
            .core
            .appservice_reloads
            .send_modify(|heard| *heard += 1);
    }

    #[cfg(test)]
    fn sample(_: &super::tests::World) -> Self {
        Self { asked_ms: 7 }
    }

    #[cfg(test)]
    async fn view(_: &super::tests::World, _: &Store) -> Result<String> {
        // It only tells: what comes of it is each process' own.
        Ok(String::new())
    }
}

impl Store {
    /// How often that was said since this process began; changes each time.
    pub fn appservice_reloads(&self) -> watch::Receiver<u64> {
        self.core.appservice_reloads.subscribe()
    }
}
