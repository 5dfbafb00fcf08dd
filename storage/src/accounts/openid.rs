//! Tokens by which users prove to other services who they are (client-server API, "OpenID"), known by their SHA-256 only.
//! They open nothing here.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ring::digest;
use ruma::{DeviceId, OwnedUserId};

use crate::engine::sql::Columns as _;
use crate::{Result, Store, UserNo};

/// How many of a user's hold at a time; beyond, the oldest end.
const MOST: i64 = 20;

fn hash_of(token: &str) -> String {
    STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()))
}

impl Store {
    /// Keeps a token of a user's device; `false` if there is no such device any more. What has expired goes.
    pub async fn add_openid_token(
        &self,
        (user, device): (UserNo, &DeviceId),
        token: &str,
        expires_ms: i64,
    ) -> Result<bool> {
        let mut tx = self.begin().await?;
        let expired = tx
            .sql("DELETE FROM openid_token WHERE expires_ms <= $1")
            .bind(self.clock().now_ms());
        tx.execute(expired).await?;
        let outdone = tx
            .sql(
                "DELETE FROM openid_token WHERE user_no = $1 AND hash NOT IN \
                 (SELECT hash FROM openid_token WHERE user_no = $1 ORDER BY expires_ms DESC LIMIT $2)",
            )
            .bind(user)
            .bind(MOST - 1);
        tx.execute(outdone).await?;
        let add = tx
            .sql(
                "INSERT INTO openid_token (hash, user_no, device_id, expires_ms) \
                 SELECT $1, user_no, device_id, $2 FROM device \
                 WHERE user_no = $3 AND device_id = $4",
            )
            .bind(hash_of(token))
            .bind(expires_ms)
            .bind(user)
            .bind(device);
        let added = tx.execute(add).await?;
        tx.commit().await?;
        Ok(added == 1)
    }

    /// Whose token it is, if it holds.
    pub async fn openid_user(&self, token: &str) -> Result<Option<OwnedUserId>> {
        let query = self
            .sql(
                "SELECT u.user_id FROM openid_token t JOIN user_name u ON u.no = t.user_no \
                 JOIN device d ON d.user_no = t.user_no AND d.device_id = t.device_id \
                 JOIN account a ON a.user_no = t.user_no AND a.locked = 0 \
                 WHERE t.hash = $1 AND t.expires_ms > $2",
            )
            .bind(hash_of(token))
            .bind(self.clock().now_ms());
        let row = self.row(query).await?;
        row.map(|row| row.get("user_id")).transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ruma::{OwnedDeviceId, device_id, user_id};

    use super::*;
    use crate::testing::TestDatabase;
    use crate::{AccountFlag, Clock, NewAccount, NewLogin, NewTokens, Options};

    const START_MS: i64 = 1_700_000_000_000;

    async fn log_in(store: &Store, user: UserNo, device: &str, hash: &str) {
        let login = NewLogin {
            user,
            device_id: OwnedDeviceId::from(device),
            device_name: None,
            ip: "::1".into(),
            now_ms: START_MS,
            tokens: NewTokens {
                access_hash: hash.to_owned(),
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
    async fn a_token_ends_with_its_time_and_its_session() {
        for database in TestDatabase::both().await {
            let clock = Clock::manual(START_MS);
            let options = Options {
                clock: clock.clone(),
                ..database.options()
            };
            let store = Store::open(options).await.unwrap();
            let ada = user_id!("@ada:here");
            let made = store.create_account(ada, NewAccount::default(), None);
            let user = made.await.unwrap().unwrap();
            log_in(&store, user, "A", "a").await;
            log_in(&store, user, "B", "b").await;
            let add = async |device: &str, token: &str, lives: i64| {
                let device = <&DeviceId>::from(device);
                let until = store.clock().now_ms() + lives;
                let added = store.add_openid_token((user, device), token, until);
                added.await.unwrap()
            };
            let holds = async |token: &str| store.openid_user(token).await.unwrap().is_some();
            assert!(add("A", "one", 10).await);
            assert!(add("B", "two", 1_000).await);
            assert!(!add("C", "three", 1_000).await);
            let found = store.openid_user("one").await.unwrap();
            assert_eq!(found.as_deref(), Some(ada));
            assert!(!holds("three").await && !holds("").await && !holds("\u{0}").await);
            clock.advance(Duration::from_millis(10));
            assert!(!holds("one").await && holds("two").await);
            // Another session of the device isn't that one.
            log_in(&store, user, "B", "c").await;
            assert!(!holds("two").await);
            assert!(add("B", "four", 1_000).await);
            store
                .remove_devices(user, &[device_id!("B").to_owned()])
                .await
                .unwrap();
            assert!(!holds("four").await);
            // Who is locked proves nothing.
            assert!(add("A", "five", 500).await);
            for locked in [true, false] {
                let set = store.set_account_flag(user, AccountFlag::Locked, locked);
                assert!(set.await.unwrap());
                assert_eq!(holds("five").await, !locked);
            }
            for n in 0..MOST + 2 {
                assert!(add("A", &format!("n{n}"), 1_000 + n).await);
            }
            assert!(!holds("n0").await && !holds("n1").await && holds("n2").await);
            store.deactivate_account(user, false).await.unwrap();
            assert!(!holds("n2").await);
            store.close().await;
            database.remove().await;
        }
    }
}
