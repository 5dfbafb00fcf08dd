//! Access and refresh tokens, known by their SHA-256 only.
//!
//! A refresh gives out a new pair and leaves the old refresh token good until the new pair is used
//! (<https://spec.matrix.org/v1.19/client-server-api/#refreshing-access-tokens>): `replaces` names it
//! until then.

use ruma::{OwnedDeviceId, OwnedUserId};

use crate::engine::sql::Columns as _;
use crate::{Result, Store, UserNo};

/// What an access token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The user.
    pub user: UserNo,
    /// Their id.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// It came of a refresh and wasn't used yet: the refresh token's hash, for [`Store::confirm_refresh`].
    pub confirms_refresh: Option<String>,
    /// When the device was seen last, as far as that was recorded, in milliseconds since 1970.
    pub last_seen_ms: i64,
    /// Whether the user is a guest.
    pub is_guest: bool,
    /// Whether the account can do nothing but log out.
    pub is_locked: bool,
    /// Whether the account can only read.
    pub is_suspended: bool,
}

impl Store {
    /// What the access token with this hash stands for; also an expired one.
    pub async fn token(&self, hash: &str) -> Result<Option<Token>> {
        let query = self
            .sql(
                "SELECT t.user_no, u.user_id, t.device_id, t.expires_ms, \
                 CASE WHEN r.replaces IS NULL THEN NULL ELSE r.hash END AS confirms_refresh, \
                 d.last_seen_ms, \
                 (SELECT COUNT(*) FROM guest g WHERE g.user_no = t.user_no) AS is_guest, \
                 COALESCE(a.locked, 0) AS is_locked, COALESCE(a.suspended, 0) AS is_suspended \
                 FROM access_token t JOIN user_name u ON u.no = t.user_no \
                 JOIN device d ON d.user_no = t.user_no AND d.device_id = t.device_id \
                 LEFT JOIN account a ON a.user_no = t.user_no \
                 LEFT JOIN refresh_token r ON r.hash = t.refresh_hash WHERE t.hash = $1",
            )
            .bind(hash);
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        Ok(Some(Token {
            user: row.get("user_no")?,
            user_id: row.get("user_id")?,
            device_id: row.get("device_id")?,
            expires_ms: row.get("expires_ms")?,
            confirms_refresh: row.get("confirms_refresh")?,
            last_seen_ms: row.get("last_seen_ms")?,
            is_guest: row.get("is_guest")?,
            is_locked: row.get("is_locked")?,
            is_suspended: row.get("is_suspended")?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ruma::user_id;

    use super::*;
    use crate::testing::{TestDatabase, each_database};
    use crate::{Clock, NewLogin, NewTokens, Options};

    fn pair(n: u32) -> NewTokens {
        NewTokens {
            access_hash: format!("a{n}"),
            refresh_hash: Some(format!("r{n}")),
            expires_ms: Some(i64::from(n)),
            refresh_expires_ms: None,
        }
    }

    fn login(user: UserNo, device: &str, tokens: NewTokens) -> NewLogin {
        NewLogin {
            user,
            device_id: device.into(),
            device_name: Some("a\u{0}b\u{1}".into()),
            ip: "::1".into(),
            now_ms: 7,
            tokens,
            proof: None,
            proved: false,
        }
    }

    #[tokio::test]
    async fn a_login_ends_the_older_tokens_of_its_device_only() {
        each_database(async |store| {
            let ada = store.user_no(user_id!("@ada:here")).await.unwrap();
            assert!(store.log_in(&login(ada, "A", pair(1))).await.unwrap());
            assert!(store.log_in(&login(ada, "B", pair(2))).await.unwrap());
            assert!(store.log_in(&login(ada, "A", pair(3))).await.unwrap());
            assert_eq!(store.token("a1").await.unwrap(), None);
            assert!(!store.refresh("r1", pair(9)).await.unwrap());
            let token = store.token("a3").await.unwrap().unwrap();
            assert_eq!((token.user, token.device_id.as_str()), (ada, "A"));
            assert_eq!(token.user_id, "@ada:here");
            assert_eq!(token.expires_ms, Some(3));
            assert!(store.token("a2").await.unwrap().is_some());

            let devices = store.devices(ada).await.unwrap();
            assert_eq!(devices.len(), 2);
            assert_eq!(devices[0].name.as_deref(), Some("a\u{0}b\u{1}"));
            assert!(store.rename_device(ada, "B".into(), "\u{0}").await.unwrap());
            assert!(!store.rename_device(ada, "C".into(), "x").await.unwrap());
            let device = store.device(ada, "B".into()).await.unwrap().unwrap();
            assert_eq!(device.name.as_deref(), Some("\u{0}"));

            store.remove_devices(ada, &["A".into()]).await.unwrap();
            assert_eq!(store.token("a3").await.unwrap(), None);
            assert!(!store.refresh("r3", pair(9)).await.unwrap());
            assert!(store.token("a2").await.unwrap().is_some());
        })
        .await;
    }

    #[tokio::test]
    async fn a_refresh_token_lives_until_its_successor_is_used() {
        each_database(async |store| {
            let ada = store.user_no(user_id!("@ada:here")).await.unwrap();
            store.log_in(&login(ada, "A", pair(1))).await.unwrap();
            assert!(store.refresh("r1", pair(2)).await.unwrap());
            let token = store.token("a2").await.unwrap().unwrap();
            assert_eq!(token.device_id.as_str(), "A");
            // The answer got lost: once more, and what was given out before ends.
            assert!(store.refresh("r1", pair(3)).await.unwrap());
            // Who has it all the same is told that the session lives.
            let ended = store.token("a2").await.unwrap().unwrap();
            assert_eq!((ended.expires_ms, ended.confirms_refresh), (Some(0), None));
            assert!(!store.refresh("r2", pair(9)).await.unwrap());
            assert!(store.token("a1").await.unwrap().is_some());

            // The new access token is used.
            let token = store.token("a3").await.unwrap().unwrap();
            assert_eq!(token.confirms_refresh.as_deref(), Some("r3"));
            store.confirm_refresh(&token).await.unwrap();
            let token = store.token("a3").await.unwrap().unwrap();
            assert_eq!(token.confirms_refresh, None);
            assert_eq!(store.token("a1").await.unwrap(), None);
            assert!(!store.refresh("r1", pair(9)).await.unwrap());

            // The new refresh token is used at once.
            assert!(store.refresh("r3", pair(4)).await.unwrap());
            assert_eq!(store.token("a2").await.unwrap(), None);
            assert!(store.refresh("r4", pair(5)).await.unwrap());
            assert!(!store.refresh("r3", pair(9)).await.unwrap());
            assert_eq!(store.token("a3").await.unwrap(), None);
        })
        .await;
    }

    #[tokio::test]
    async fn a_refresh_token_that_was_used_before_ends_what_its_session_has() {
        each_database(async |store| {
            let ada = store.user_no(user_id!("@ada:here")).await.unwrap();
            let pair = |n: u32| NewTokens {
                refresh_hash: Some(format!("s.{n}.r")),
                expires_ms: Some(i64::MAX),
                ..pair(n)
            };
            store.log_in(&login(ada, "A", pair(1))).await.unwrap();
            let other = NewTokens {
                refresh_hash: Some("t.0.r".into()),
                ..pair(9)
            };
            store.log_in(&login(ada, "B", other)).await.unwrap();
            assert!(store.refresh("s.1.r", pair(2)).await.unwrap());
            // Nobody's, or one that nothing is known of.
            for unknown in ["u.1.r", "r1", "s", ""] {
                assert!(!store.refresh_reused(unknown).await.unwrap(), "{unknown}");
            }
            // One beside those that are good: the session goes on, and nothing of it ends.
            for beside in ["s.2.x", "s.1.x", "s.9.x"] {
                assert!(store.refresh_reused(beside).await.unwrap(), "{beside}");
            }
            assert!(store.refresh("s.2.r", pair(3)).await.unwrap());
            assert!(!store.refresh("s.1.r", pair(4)).await.unwrap());
            assert!(store.refresh_reused("s.1.r").await.unwrap());
            // The newest is told that it can go on with another login; the device and its keys are there.
            assert!(!store.refresh("s.3.r", pair(4)).await.unwrap());
            assert!(store.refresh_reused("s.3.r").await.unwrap());
            assert!(!store.refresh_reused("s.1.r").await.unwrap());
            let token = store.token("a3").await.unwrap().unwrap();
            assert_eq!(token.expires_ms, Some(0));
            assert_eq!(store.devices(ada).await.unwrap().len(), 2);
            assert!(store.refresh("t.0.r", pair(10)).await.unwrap());
        })
        .await;
    }

    #[tokio::test]
    async fn a_refresh_token_ends_with_its_time() {
        for database in TestDatabase::both().await {
            let clock = Clock::manual(1_000);
            let options = Options {
                clock: clock.clone(),
                ..database.options()
            };
            let store = Store::open(options).await.unwrap();
            let ada = store.user_no(user_id!("@ada:here")).await.unwrap();
            let pair = |n: u32, until: Option<i64>| NewTokens {
                refresh_hash: Some(format!("s.{n}.r")),
                refresh_expires_ms: until,
                ..pair(n)
            };
            let first = login(ada, "A", pair(1, Some(2_000)));
            store.log_in(&first).await.unwrap();
            clock.advance(Duration::from_millis(999));
            let second = pair(2, Some(3_000));
            assert!(store.refresh("s.1.r", second).await.unwrap());
            clock.advance(Duration::from_millis(1));
            // The answer was lost, but it is too late now; what it gave out is good.
            assert!(!store.refresh("s.1.r", pair(3, None)).await.unwrap());
            assert!(store.refresh_reused("s.1.r").await.unwrap());
            clock.advance(Duration::from_millis(999));
            assert!(store.refresh("s.2.r", pair(4, None)).await.unwrap());
            clock.advance(Duration::from_hours(24_000));
            assert!(store.refresh("s.4.r", pair(5, Some(0))).await.unwrap());
            assert!(!store.refresh("s.5.r", pair(6, None)).await.unwrap());
            // The device stays, and nothing of its session ends by that.
            assert!(store.refresh_reused("s.5.r").await.unwrap());
            assert_eq!(store.devices(ada).await.unwrap().len(), 1);
            assert!(store.refresh("s.4.r", pair(7, None)).await.unwrap());
            // One that was used before ends the session, however old it is.
            let token = store.token("a7").await.unwrap().unwrap();
            store.confirm_refresh(&token).await.unwrap();
            assert!(store.refresh_reused("s.1.r").await.unwrap());
            assert!(!store.refresh("s.7.r", pair(8, None)).await.unwrap());
            store.close().await;
            database.remove().await;
        }
    }
}
