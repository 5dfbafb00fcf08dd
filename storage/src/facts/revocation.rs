//! Access tokens have ended: what caches of them hold is stale from here on.

use std::sync::Arc;

use ruma::OwnedDeviceId;
use sqlx::any::AnyRow;

use super::{Audience, Kind, Logged, LoggedKind};
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::{Pos, Result, Store, UserNo};

/// Access tokens have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRevoked {
    /// Whose.
    pub user: UserNo,
    /// Of which device; `None` is all of them.
    pub device: Option<OwnedDeviceId>,
}

rows! {
    struct Row<'a> {
        pos: i64,
        user_no: UserNo,
        device: Option<&'a OwnedDeviceId>,
    }
}

impl Kind for TokenRevoked {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let rows: Vec<_> = (facts.iter())
            .map(|(pos, revoked)| Row {
                pos: *pos,
                user_no: revoked.user,
                device: revoked.device.as_ref(),
            })
            .collect();
        statements.after(
            "INSERT INTO revocation (pos, user_no, device) \
             SELECT pos + $2, user_no, device FROM ROWS($1) AS x",
            &rows,
        )
    }

    fn forget(&self, store: &Store) {
        Self::forget_read(self, store);
    }
}

impl LoggedKind for TokenRevoked {
    type Entry = Self;
    const TABLE: &'static str = "revocation";
    const PURGE: Option<&'static str> = Some(
        "DELETE FROM revocation WHERE pos IN \
         (SELECT pos FROM revocation WHERE pos <= $1 ORDER BY pos LIMIT $2)",
    );

    fn entry(&self) -> Self {
        self.clone()
    }

    async fn at(store: &Store, positions: &[Pos]) -> Result<Vec<Arc<Logged<Self>>>> {
        let query = store
            .sql("SELECT pos, user_no, device FROM revocation WHERE pos IN NUMBERS($1)")
            .numbers(positions.iter().copied());
        store.rows(query).await?.iter().map(read).collect()
    }

    fn audience(revoked: &Self) -> Audience {
        Audience::User(revoked.user)
    }

    /// All of a user's tokens end when the account does, maybe with the user's content.
    fn forget_read(revoked: &Self, store: &Store) {
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

fn read(row: &AnyRow) -> Result<Arc<Logged<TokenRevoked>>> {
    let fact = TokenRevoked {
        user: row.get("user_no")?,
        device: row.get("device")?,
    };
    Ok(Logged::new(row.get("pos")?, fact))
}
