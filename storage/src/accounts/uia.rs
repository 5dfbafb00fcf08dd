//! Sessions of user-interactive authentication, and nonces: an id, what it was begun for, and when
//! it ends. In the database, so that any process can end what another began.

use crate::engine::db::Columns as _;
use crate::engine::dialect::escaped;
use crate::{Result, Store};

impl Store {
    /// Begins a session. What has expired goes.
    pub async fn begin_uia_session(
        &self,
        id: &str,
        purpose: &str,
        now_ms: i64,
        expires_ms: i64,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        let expired = tx
            .sql("DELETE FROM uia_session WHERE expires_ms <= $1")
            .bind(now_ms);
        tx.execute(expired).await?;
        let begin = tx
            .sql("INSERT INTO uia_session (id, purpose, expires_ms) VALUES ($1, $2, $3)")
            .bind(id.to_owned())
            .bind(escaped(purpose).into_owned())
            .bind(expires_ms);
        tx.execute(begin).await?;
        tx.commit().await?;
        Ok(())
    }

    /// What a session was begun for, unless it has expired.
    pub async fn uia_session(&self, id: &str, now_ms: i64) -> Result<Option<String>> {
        let query = self
            .sql("SELECT purpose FROM uia_session WHERE id = $1 AND expires_ms > $2")
            .bind(escaped(id).into_owned())
            .bind(now_ms);
        Ok(self.row(query).await?.map(|row| row.text(0)).transpose()?)
    }

    /// Makes a session one for something else, as long as it is one for `from`; `false` if it isn't.
    pub async fn turn_uia_session(&self, id: &str, from: &str, to: &str) -> Result<bool> {
        let query = self
            .sql("UPDATE uia_session SET purpose = $3 WHERE id = $1 AND purpose = $2")
            .bind(escaped(id).into_owned())
            .bind(escaped(from).into_owned())
            .bind(escaped(to).into_owned());
        Ok(self.execute(query).await? == 1)
    }

    /// Ends a session; `false` if it had ended: of several who try, one gets `true`.
    pub async fn end_uia_session(&self, id: &str) -> Result<bool> {
        let query = self
            .sql("DELETE FROM uia_session WHERE id = $1")
            .bind(escaped(id).into_owned());
        Ok(self.execute(query).await? == 1)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::each_database;

    #[tokio::test]
    async fn a_session_serves_once_and_not_for_ever() {
        each_database(async |store| {
            store
                .begin_uia_session("s", "register \u{0}", 0, 10)
                .await
                .unwrap();
            let purpose = store.uia_session("s", 9).await.unwrap();
            assert_eq!(purpose.as_deref(), Some("register \u{0}"));
            assert_eq!(store.uia_session("s", 10).await.unwrap(), None);
            assert_eq!(store.uia_session("\u{0}", 0).await.unwrap(), None);
            assert!(
                store
                    .turn_uia_session("s", "register \u{0}", "y")
                    .await
                    .unwrap()
            );
            assert!(
                !store
                    .turn_uia_session("s", "register \u{0}", "z")
                    .await
                    .unwrap()
            );
            let purpose = store.uia_session("s", 9).await.unwrap();
            assert_eq!(purpose.as_deref(), Some("y"));
            assert!(store.end_uia_session("s").await.unwrap());
            assert!(!store.end_uia_session("s").await.unwrap());
            store.begin_uia_session("t", "x", 10, 20).await.unwrap();
            store.begin_uia_session("u", "x", 20, 30).await.unwrap();
            assert!(
                !store.end_uia_session("t").await.unwrap(),
                "it expired and went"
            );
        })
        .await;
    }
}
