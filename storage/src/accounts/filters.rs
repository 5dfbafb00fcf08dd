//! Filters that clients have stored. A filter never changes, so readers may keep it for a day: then they ask again, so that
//! it is known which are used. Others go at last (`collect/purge/filters.rs`).

use crate::engine::sql::Columns as _;
use crate::{Result, Store, UserNo};

/// How many filters a user may have; beyond, the oldest are dropped.
const MOST: i64 = 1_000;

/// How often a number is tried again that somebody else took first.
const TRIES: usize = 10;

/// A filter counts as used at the time that is noted for so long, in milliseconds.
const A_DAY: i64 = 24 * 3_600_000;

impl Store {
    /// Stores a filter (JSON text) and gives its number; the same text again gets the same number.
    pub async fn add_filter(&self, user: UserNo, json: &str) -> Result<i64> {
        for _ in 0..TRIES {
            let same = self
                .sql("SELECT id, used_ms FROM client_filter WHERE user_no = $1 AND json = $2")
                .bind(user)
                .bind(json);
            if let Some(row) = self.row(same).await? {
                let id = row.get("id")?;
                self.use_filter(user, id, row.get("used_ms")?).await;
                return Ok(id);
            }
            let insert = self
                .sql(
                    "INSERT INTO client_filter (user_no, id, json, used_ms) \
                     SELECT $1, COALESCE(MAX(id), 0) + 1, $2, $3 FROM client_filter WHERE user_no = $1 \
                     ON CONFLICT (user_no, id) DO NOTHING RETURNING id",
                )
                .bind(user)
                .bind(json)
                .bind(self.clock().now_ms());
            if let Some(row) = self.execute_returning(insert).await?.first() {
                let id: i64 = row.get("id")?;
                if id > MOST {
                    let drop = self
                        .sql("DELETE FROM client_filter WHERE user_no = $1 AND id <= $2")
                        .bind(user)
                        .bind(id - MOST);
                    self.execute(drop).await?;
                }
                return Ok(id);
            }
        }
        Err(crate::Error::broken(
            "no number could be found for a filter",
        ))
    }

    /// The filter with this number, which is used by that.
    pub async fn filter(&self, user: UserNo, id: i64) -> Result<Option<String>> {
        let query = self
            .sql("SELECT json, used_ms FROM client_filter WHERE user_no = $1 AND id = $2")
            .bind(user)
            .bind(id);
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        self.use_filter(user, id, row.get("used_ms")?).await;
        Ok(Some(row.get("json")?))
    }

    /// Notes, once a day, that a filter is used. Who reads needn't fail where nothing can be written.
    async fn use_filter(&self, user: UserNo, id: i64, used_ms: Option<i64>) {
        let now = self.clock().now_ms();
        if used_ms.is_some_and(|used| now - used < A_DAY) {
            return;
        }
        let query = self
            .sql("UPDATE client_filter SET used_ms = $3 WHERE user_no = $1 AND id = $2")
            .bind(user)
            .bind(id)
            .bind(now);
        if let Err(error) = self.execute(query).await {
            tracing::debug!(%error, "it can't be noted that a filter is used");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::each_database;

    #[tokio::test]
    async fn a_filter_keeps_its_number_and_belongs_to_its_user() {
        each_database(|store| async move {
            let (alice, bob) = (UserNo(1), UserNo(2));
            let first = store.add_filter(alice, r#"{"a":"\u0000"}"#).await.unwrap();
            let second = store.add_filter(alice, "{}").await.unwrap();
            assert_ne!(first, second);
            assert_eq!(
                store.add_filter(alice, r#"{"a":"\u0000"}"#).await.unwrap(),
                first
            );
            assert_eq!(
                store.filter(alice, first).await.unwrap().as_deref(),
                Some(r#"{"a":"\u0000"}"#)
            );
            assert_eq!(store.filter(bob, second).await.unwrap(), None);
            assert_eq!(store.filter(alice, 99).await.unwrap(), None);
        })
        .await;
    }
}
