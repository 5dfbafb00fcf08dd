//! Tokens with which another device can log in, once and soon (`m.login.token`).

use ruma::DeviceId;

use crate::engine::sql::Columns as _;
use crate::{Result, Store, UserNo};

impl Store {
    /// Keeps a token that a device has asked for, known by its hash only, unless so many of the user are good already or
    /// there is no such device any more: with the device it goes. What has expired goes.
    pub async fn add_login_token(
        &self,
        (user, device): (UserNo, &DeviceId),
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
                "INSERT INTO login_token (hash, user_no, device_id, expires_ms) \
                 SELECT $1, user_no, device_id, $2 FROM device WHERE user_no = $3 AND device_id = $4 \
                 AND (SELECT COUNT(*) FROM login_token WHERE user_no = $3) < $5",
            )
            .bind(hash)
            .bind(expires_ms)
            .bind(user)
            .bind(device)
            .bind(most);
        let added = tx.execute(add).await?;
        tx.commit().await?;
        Ok(added == 1)
    }

    /// Whose token it is, if it is good and the device that asked for it is there; from now on it isn't: of several who try,
    /// one is told.
    pub async fn take_login_token(&self, hash: &str) -> Result<Option<UserNo>> {
        let query = self
            .sql(
                "SELECT t.user_no FROM login_token t \
                 JOIN device d ON d.user_no = t.user_no AND d.device_id = t.device_id \
                 WHERE t.hash = $1 AND t.expires_ms > $2",
            )
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
    use ruma::{DeviceId, device_id, user_id};

    use crate::testing::each_database;
    use crate::{NewLogin, NewTokens, Store, UserNo};

    async fn log_in(store: &Store, user: UserNo, device: &str, token: &str) {
        let login = NewLogin {
            user,
            device_id: device.into(),
            device_name: None,
            ip: "::1".into(),
            now_ms: 1,
            tokens: NewTokens {
                access_hash: token.into(),
                refresh_hash: None,
                expires_ms: None,
                refresh_expires_ms: None,
            },
            proof: None,
            proved: false,
        };
        assert!(store.log_in(&login).await.unwrap());
    }

    #[tokio::test]
    async fn a_token_is_good_once_and_not_for_ever() {
        each_database(async |store| {
            let ada = store.user_no(user_id!("@ada:here")).await.unwrap();
            log_in(&store, ada, "A", "1").await;
            let now = store.clock().now_ms();
            let by = (ada, device_id!("A"));
            let add =
                async |hash: &str, until| store.add_login_token(by, hash, until, 2).await.unwrap();
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

    #[tokio::test]
    async fn a_token_goes_with_the_device_that_asked_for_it() {
        each_database(async |store| {
            let ada = store.user_no(user_id!("@ada:here")).await.unwrap();
            let until = store.clock().now_ms() + 3_600_000;
            let add = async |device: &str, hash: &str| {
                let by = (ada, <&DeviceId>::from(device));
                store.add_login_token(by, hash, until, 10).await.unwrap()
            };
            assert!(!add("A", "x").await, "there is no such device");
            log_in(&store, ada, "A", "1").await;
            log_in(&store, ada, "B", "2").await;
            assert!(add("A", "a").await && add("B", "b").await);
            let gone = [device_id!("A").to_owned()];
            store.remove_devices(ada, &gone).await.unwrap();
            assert_eq!(store.take_login_token("a").await.unwrap(), None);
            // Another session of the device isn't that one.
            log_in(&store, ada, "A", "3").await;
            assert_eq!(store.take_login_token("a").await.unwrap(), None);
            assert_eq!(store.take_login_token("b").await.unwrap(), Some(ada));
        })
        .await;
    }
}
