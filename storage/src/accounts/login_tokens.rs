//! Tokens with which another device can log in, once and soon (`m.login.token`).

use crate::engine::sql::Columns as _;
use crate::{Result, Store, UserNo};

impl Store {
    /// Keeps a token, known by its hash only, unless so many of the user are good already. What has expired goes.
    pub async fn add_login_token(
        &self,
        user: UserNo,
        hash: &str,
        expires_ms: i64,
        most: usize,
    ) -> Result<bool> {
        let mut tx = self.begin().await?;
        let expired = tx
            .sql("DELETE FROM login_token WHERE expires_ms <= $1")
            .bind(self.clock().now_ms());
        tx.execute(expired).await?;
        let add = tx
            .sql(
                "INSERT INTO login_token (hash, user_no, expires_ms) SELECT $1, $2, $3 \
                 WHERE (SELECT COUNT(*) FROM login_token WHERE user_no = $2) < $4",
            )
            .bind(hash)
            .bind(user)
            .bind(expires_ms)
            .bind(most);
        let added = tx.execute(add).await?;
        tx.commit().await?;
        Ok(added == 1)
    }

    /// Whose token it is, if it is good; from now on it isn't: of several who try, one is told.
    pub async fn take_login_token(&self, hash: &str) -> Result<Option<UserNo>> {
        let query = self
            .sql("SELECT user_no FROM login_token WHERE hash = $1 AND expires_ms > $2")
            .bind(hash)
            .bind(self.clock().now_ms());
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        let query = self
            .sql("DELETE FROM login_token WHERE hash = $1")
            .bind(hash);
        let taken = self.execute(query).await? == 1;
        Ok(if taken {
            Some(row.get("user_no")?)
        } else {
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use crate::testing::each_database;

    #[tokio::test]
    async fn a_token_is_good_once_and_not_for_ever() {
        each_database(async |store| {
            let ada = store.user_no(user_id!("@ada:here")).await.unwrap();
            let now = store.clock().now_ms();
            let add =
                async |hash: &str, until| store.add_login_token(ada, hash, until, 2).await.unwrap();
            assert!(add("a", now + 3_600_000).await);
            assert!(add("b", now - 1).await);
            assert!(add("c", now + 3_600_000).await, "what has expired went");
            assert!(!add("d", now + 3_600_000).await);
            assert_eq!(store.take_login_token("a").await.unwrap(), Some(ada));
            for gone in ["a", "b", "d", "\u{0}"] {
                assert_eq!(store.take_login_token(gone).await.unwrap(), None);
            }
            store.end_sessions(ada, None).await.unwrap();
            assert_eq!(store.take_login_token("c").await.unwrap(), None);
        })
        .await;
    }
}
