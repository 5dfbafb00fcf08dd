//! Filters that clients have stored. A filter never changes, so readers may keep it.

use crate::engine::db::Columns as _;
use crate::{Result, Store, UserNo};

/// How many filters a user may have; beyond, the oldest are dropped.
const MOST: i64 = 1_000;

/// How often a number is tried again that somebody else took first.
const TRIES: usize = 10;

impl Store {
    /// Stores a filter (JSON text) and gives its number; the same text again gets the same number.
    pub async fn add_filter(&self, user: UserNo, json: &str) -> Result<i64> {
        for _ in 0..TRIES {
            let same = self
                .sql("SELECT id FROM client_filter WHERE user_no = $1 AND json = $2")
                .bind(user.0)
                .bind(json.to_owned());
            if let Some(row) = self.row(same).await? {
                return Ok(row.int(0)?);
            }
            let insert = self
                .sql(
                    "INSERT INTO client_filter (user_no, id, json) \
                     SELECT $1, COALESCE(MAX(id), 0) + 1, $2 FROM client_filter WHERE user_no = $1 \
                     ON CONFLICT (user_no, id) DO NOTHING RETURNING id",
                )
                .bind(user.0)
                .bind(json.to_owned());
            if let Some(row) = self.execute_returning(insert).await?.first() {
                let id = row.int(0)?;
                if id > MOST {
                    let drop = self
                        .sql("DELETE FROM client_filter WHERE user_no = $1 AND id <= $2")
                        .bind(user.0)
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

    /// The filter with this number.
    pub async fn filter(&self, user: UserNo, id: i64) -> Result<Option<String>> {
        let query = self
            .sql("SELECT json FROM client_filter WHERE user_no = $1 AND id = $2")
            .bind(user.0)
            .bind(id);
        Ok(self.row(query).await?.map(|row| row.raw(0)).transpose()?)
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
