//! Several types of account data at once, and how much there is.

use std::sync::Arc;

use super::AccountData;
use crate::engine::sql::Columns as _;
use crate::facts::Logged;
use crate::{Error, Result, Store, UserNo};

/// How much account data a user has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataSize {
    /// Types, each room's by themselves; also those that were deleted, whose rows stay.
    pub types: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl Store {
    /// How much account data a user has.
    pub async fn account_data_size(&self, user: UserNo) -> Result<DataSize> {
        let query = self
            .sql(
                "SELECT COUNT(*) AS types, \
                 CAST(COALESCE(SUM(OCTET_LENGTH(content)), 0) AS BIGINT) AS bytes \
                 FROM account_data WHERE user_no = $1",
            )
            .bind(user);
        let row = self.row(query).await?;
        let row = row.ok_or_else(|| Error::broken("a count has no row"))?;
        let (types, bytes): (i64, i64) = (row.get("types")?, row.get("bytes")?);
        Ok(DataSize {
            types: u64::try_from(types).unwrap_or_default(),
            bytes: u64::try_from(bytes).unwrap_or_default(),
        })
    }

    /// A user's global account data of these types.
    pub async fn global_data_of(
        &self,
        user: UserNo,
        kinds: &[&str],
    ) -> Result<Vec<Arc<Logged<AccountData>>>> {
        let query = self
            .sql(
                "SELECT pos, user_no, room, kind, content FROM account_data \
                 WHERE user_no = $1 AND room = 0 AND kind IN TEXTS($2)",
            )
            .bind(user)
            .texts(kinds.iter().copied());
        self.rows(query).await?.iter().map(Logged::read).collect()
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::testing::each_database;
    use crate::{DataChange, Fact, INVITE_RULES, RoomNo, WriteSet};

    #[tokio::test]
    async fn what_a_user_has_is_found_together() {
        each_database(async |store| {
            let ada = store.user_no(user_id!("@ada:here")).await.unwrap();
            let put = async |room: Option<RoomNo>, kind: &str, content: &str| {
                let data = AccountData {
                    user: ada,
                    room,
                    kind: kind.to_owned(),
                    content: content.into(),
                };
                let change = DataChange { data, expect: None };
                let set = WriteSet::from(vec![Fact::AccountData(change)]);
                store.commit(set).await.unwrap();
            };
            let size = async || {
                let size = store.account_data_size(ada).await.unwrap();
                (size.types, size.bytes)
            };
            assert_eq!(size().await, (0, 0));
            put(None, "a", "{\"a\":\"ä\"}").await;
            put(Some(RoomNo(1)), "a", "{\"b\":1}").await;
            assert_eq!(size().await, (2, 17));
            put(Some(RoomNo(1)), "a", "{}").await;
            // What was deleted has a row as well.
            assert_eq!(size().await, (2, 12));
            let notifying = async || store.notifying(&[ada]).await.unwrap().remove(0);
            assert_eq!(notifying().await.invites.len(), 0);
            put(None, INVITE_RULES[0], "{\"c\":1}").await;
            put(None, INVITE_RULES[2], "{\"d\":1}").await;
            let known = notifying().await;
            assert_eq!(known.invites.len(), 2);
            // What counts messages needn't count anew for that.
            assert!(known.last() > known.pos());
            let kinds = [INVITE_RULES[2], "a", "b"];
            let found = store.global_data_of(ada, &kinds).await.unwrap();
            let mut found: Vec<&str> = found.iter().map(|one| one.kind.as_str()).collect();
            found.sort_unstable();
            assert_eq!(found, ["a", INVITE_RULES[2]]);
        })
        .await;
    }
}
