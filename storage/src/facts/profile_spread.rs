//! What rooms are to be told of a user's profile. A reader of the log tells them; one that is told something newer
//! meanwhile is told that.

use std::sync::Arc;

use super::table::table;
use super::{Audience, Kind, Logged, LoggedKind};
use crate::engine::sql::Columns as _;
use crate::engine::sql::statement::Statements;
use crate::{Pos, Result, Store, UserNo};

table! {
    /// The rooms that a user is in are to be told of a field of their profile.
    pub struct ProfileSpread in profile_spread {
        key {
            /// Whose.
            user: UserNo = user_no,
            /// Which.
            field: String = field,
        }
        /// What it is; `None`: nothing.
        value: Option<String> = value,
        /// What it was, as JSON: only rooms that know it so are told. `None`: all are.
        was: Option<String> = was,
    }
}

impl Kind for ProfileSpread {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        Self::put(facts, statements)
    }
}

impl LoggedKind for ProfileSpread {
    type Entry = Self;

    fn entry(&self) -> Self {
        self.clone()
    }

    fn audience(_: &Self) -> Audience {
        Audience::Nobody
    }

    fn weight(spread: &Self) -> usize {
        let texts = [&spread.value, &spread.was].into_iter().flatten();
        spread.field.len() + texts.map(String::len).sum::<usize>()
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self {
            user: world.user,
            field: "displayname".to_owned(),
            value: Some("Ada".to_owned()),
            was: None,
        }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        let found = store.profile_spreads(world.user, Pos(0)).await?;
        Ok(format!("{found:?}"))
    }
}

impl Store {
    /// What the rooms of a user are to be told that has come after a position.
    pub async fn profile_spreads(
        &self,
        user: UserNo,
        after: Pos,
    ) -> Result<Vec<Arc<Logged<ProfileSpread>>>> {
        let query = self
            .sql(
                "SELECT pos, user_no, field, value, was FROM profile_spread \
                 WHERE user_no = $1 AND pos > $2 ORDER BY pos",
            )
            .bind(user)
            .bind(after);
        let rows = self.rows(query).await?;
        rows.iter().map(Logged::read).collect()
    }

    /// Before which position nothing is to be told, if anything ever was.
    pub async fn first_profile_spread(&self) -> Result<Option<Pos>> {
        let query = self.sql("SELECT pos FROM profile_spread ORDER BY pos LIMIT 1");
        let row = self.row(query).await?;
        row.map(|row| row.get("pos")).transpose()
    }
}
