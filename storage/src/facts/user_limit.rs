//! How often a user may do something, where the operator has set that for them alone.

use super::table::table;
use super::{Audience, Kind, LoggedKind};
use crate::engine::sql::statement::Statements;
use crate::{Result, Store};

table! {
    /// The operator sets one of a user's limits, or lets it be as usual.
    pub struct UserLimit in user_limit {
        key {
            /// Whose: the user's id.
            user: String = user_id,
            /// Of what, as the configuration calls it.
            kind: String = kind,
        }
        /// So many millionths of an action per second.
        millionths: i64 = millionths,
        /// So many at once.
        burst: i64 = burst,
        /// Whether it is theirs; `false`: it is as usual.
        is_set: bool = is_set,
    }
}

impl Kind for UserLimit {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        Self::put(facts, statements)
    }
}

impl LoggedKind for UserLimit {
    type Entry = Self;

    fn entry(&self) -> Self {
        self.clone()
    }

    fn audience(_: &Self) -> Audience {
        Audience::Nobody
    }

    fn forget(limit: &Self, store: &Store) {
        store.hear_user_limit(limit);
    }

    #[cfg(test)]
    fn sample(_: &super::tests::World) -> Self {
        Self {
            user: "@ada:here".into(),
            kind: "message".into(),
            millionths: 2_500_000,
            burst: 7,
            is_set: true,
        }
    }

    #[cfg(test)]
    async fn view(_: &super::tests::World, store: &Store) -> Result<String> {
        Ok(format!(
            "{:?}",
            store.user_limits().all_of(ruma::user_id!("@ada:here"))
        ))
    }
}
