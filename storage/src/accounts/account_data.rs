//! Account data: one row per (user, room or none, type), at the position of its last change.

use std::sync::Arc;

use sqlx::any::AnyRow;

use crate::engine::db::Columns as _;
use crate::engine::dialect::escaped;
use crate::{AccountData, Pos, Result, RoomNo, Store, UserNo};

/// What stands for no room; rooms' numbers begin at 1.
pub(crate) const GLOBAL: i64 = 0;

impl Store {
    /// One type of the user's account data, of a room or global.
    pub async fn account_data(
        &self,
        user: UserNo,
        room: Option<RoomNo>,
        kind: &str,
    ) -> Result<Option<Arc<AccountData>>> {
        let query = self
            .sql(
                "SELECT pos, user_no, room, kind, content FROM account_data \
                 WHERE user_no = $1 AND room = $2 AND kind = $3",
            )
            .bind(user.0)
            .bind(room.map_or(GLOBAL, |room| room.0))
            .bind(escaped(kind).into_owned());
        self.row(query)
            .await?
            .as_ref()
            .map(account_data)
            .transpose()
    }

    /// All of the user's account data, of rooms and global, that changed with `after < pos ≤ upto`,
    /// ascending by position.
    pub async fn account_data_since(
        &self,
        user: UserNo,
        after: Pos,
        upto: Pos,
    ) -> Result<Vec<Arc<AccountData>>> {
        let query = self
            .sql(
                "SELECT pos, user_no, room, kind, content FROM account_data \
                 WHERE user_no = $1 AND pos > $2 AND pos <= $3 ORDER BY pos",
            )
            .bind(user.0)
            .bind(after.0)
            .bind(upto.0);
        self.rows(query).await?.iter().map(account_data).collect()
    }

    pub(crate) async fn account_data_at(&self, positions: String) -> Result<Vec<Arc<AccountData>>> {
        let query = self
            .sql(
                "SELECT pos, user_no, room, kind, content FROM account_data \
                 WHERE pos IN (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1))",
            )
            .bind(positions);
        self.rows(query).await?.iter().map(account_data).collect()
    }
}

fn account_data(row: &AnyRow) -> Result<Arc<AccountData>> {
    Ok(Arc::new(AccountData {
        pos: Pos(row.int(0)?),
        user: UserNo(row.int(1)?),
        room: Some(RoomNo(row.int(2)?)).filter(|room| room.0 != GLOBAL),
        kind: row.text(3)?,
        content: row.text(4)?.into(),
    }))
}
