//! Access tokens have ended: what caches of them hold is stale from here on.

use super::table::table;
use super::{Audience, Kind, LoggedKind};
use crate::engine::sql::statement::Statements;
use crate::{Result, Store, UserNo};
use ruma::OwnedDeviceId;

table! {
    /// Access tokens have ended.
    pub struct TokenRevoked in revocation {
        /// Whose.
        user: UserNo = user_no,
        /// Of which device; `None` is all of them.
        device: Option<OwnedDeviceId> = device,
    }
}

impl Kind for TokenRevoked {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        Self::put(facts, statements)
    }
}

impl LoggedKind for TokenRevoked {
    type Entry = Self;
    const TELLS: bool = true;

    fn entry(&self) -> Self {
        self.clone()
    }

    fn audience(revoked: &Self) -> Audience {
        Audience::User(revoked.user)
    }

    /// All of a user's tokens end when the account does, maybe with the user's content; those of a device, also when
    /// it goes, with its keys.
    fn forget(revoked: &Self, store: &Store) {
        store.forget_key_counts(revoked.user);
        if revoked.device.is_none() {
            store.forget_erasures();
        }
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self {
            user: world.user,
            device: None,
        }
    }

    #[cfg(test)]
    async fn view(_: &super::tests::World, store: &Store) -> Result<String> {
        let erasures = store.erasures().await?;
        Ok(format!("{erasures:?}"))
    }
}
