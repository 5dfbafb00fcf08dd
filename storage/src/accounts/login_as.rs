//! Tokens by which administrators act as a user. They belong to no device, so that nobody sees them, and are good only while
//! who asked for them has the rights to do so.

use ruma::OwnedUserId;

use super::sessions::revoked;
use crate::engine::sql::Columns as _;
use crate::{AccountChange, Result, Store, UserNo};

/// So many that an administrator has asked for are good at a time: of more the oldest go.
const MOST: usize = 10_000;

/// What such a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginAs {
    /// As whom.
    pub user: UserNo,
    /// Their id.
    pub user_id: OwnedUserId,
    /// Who has asked for it.
    pub by: UserNo,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// Whether the user is a guest.
    pub is_guest: bool,
    /// Whether the account can do nothing but log out.
    pub is_locked: bool,
    /// Whether the account can only read.
    pub is_suspended: bool,
}

impl Store {
    /// Keeps a token, known by its hash only, by which an administrator acts as a user until then. `false` if they are no
    /// administrator, or it is the account of one, or there is none, or it has ended.
    pub async fn add_login_as(
        &self,
        by: UserNo,
        user: UserNo,
        hash: &str,
        expires_ms: Option<i64>,
    ) -> Result<bool> {
        let mut tx = self.begin().await?;
        let add = tx
            .sql(
                "INSERT INTO login_as (hash, user_no, by_user, made_ms, expires_ms) \
                 SELECT $1, a.user_no, b.user_no, $2, $3 FROM account a CROSS JOIN account b \
                 WHERE a.user_no = $4 AND a.deactivated = 0 AND a.admin = 0 \
                 AND b.user_no = $5 AND b.admin = 1 AND b.deactivated = 0 AND b.locked = 0 AND b.suspended = 0",
            )
            .bind(hash)
            .bind(self.clock().now_ms())
            .bind(expires_ms)
            .bind(user)
            .bind(by);
        let added = tx.execute(add).await? == 1;
        let old = tx
            .sql(
                "DELETE FROM login_as WHERE by_user = $1 AND made_ms < (SELECT MIN(made_ms) FROM \
                 (SELECT made_ms FROM login_as WHERE by_user = $1 ORDER BY made_ms DESC LIMIT $2) AS newest)",
            )
            .bind(by)
            .bind(MOST);
        tx.execute(old).await?;
        tx.commit().await?;
        Ok(added)
    }

    /// What the token with this hash stands for, also if it has expired; nothing if whoever asked for it may do so no longer,
    /// or the account has ended or become an administrator's.
    pub async fn login_as(&self, hash: &str) -> Result<Option<LoginAs>> {
        let query = self
            .sql(
                "SELECT t.user_no, u.user_id, t.by_user, t.expires_ms, a.locked, a.suspended, \
                 (SELECT COUNT(*) FROM guest g WHERE g.user_no = t.user_no) AS is_guest \
                 FROM login_as t JOIN user_name u ON u.no = t.user_no \
                 JOIN account a ON a.user_no = t.user_no AND a.deactivated = 0 AND a.admin = 0 \
                 JOIN account b ON b.user_no = t.by_user AND b.admin = 1 AND b.deactivated = 0 \
                 AND b.locked = 0 AND b.suspended = 0 WHERE t.hash = $1",
            )
            .bind(hash);
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        Ok(Some(LoginAs {
            user: row.get("user_no")?,
            user_id: row.get("user_id")?,
            by: row.get("by_user")?,
            expires_ms: row.get("expires_ms")?,
            is_guest: row.get("is_guest")?,
            is_locked: row.get("locked")?,
            is_suspended: row.get("suspended")?,
        }))
    }

    /// Ends such a token of a user.
    pub async fn end_login_as(&self, user: UserNo, hash: &str) -> Result<()> {
        let end = AccountChange::EndLoginAs {
            user,
            hash: hash.to_owned(),
        };
        // Caches look all of the user's up again.
        let facts = vec![end.into(), revoked(user, None)];
        self.change(facts).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use ruma::{UserId, user_id};

    use super::*;
    use crate::testing::each_database;
    use crate::{AccountFlag, NewAccount};

    async fn account(store: &Store, user: &UserId, admin: bool) -> UserNo {
        let new = NewAccount {
            admin,
            ..NewAccount::default()
        };
        let made = store.create_account(user, new, None).await;
        made.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_token_is_good_while_who_asked_for_it_has_the_right_to() {
        each_database(async |store| {
            let boss = account(&store, user_id!("@boss:here"), true).await;
            let ada = account(&store, user_id!("@ada:here"), false).await;
            let add = async |by, user, hash: &str| {
                let added = store.add_login_as(by, user, hash, Some(5)).await;
                added.unwrap()
            };
            assert!(add(boss, ada, "one").await);
            let token = store.login_as("one").await.unwrap().unwrap();
            assert_eq!(
                (token.user, token.by, token.expires_ms),
                (ada, boss, Some(5))
            );
            assert_eq!(token.user_id, "@ada:here");
            assert!(store.devices(ada).await.unwrap().is_empty());
            // Nobody acts as an administrator, nor who is none.
            assert!(!add(ada, boss, "two").await);
            assert!(!add(boss, boss, "two").await);
            assert!(!add(boss, UserNo(i64::MAX), "two").await);

            let set = async |user, flag, on| store.set_account_flag(user, flag, on).await.unwrap();
            for (user, flag, lost) in [
                (boss, AccountFlag::Admin, false),
                (boss, AccountFlag::Locked, true),
                (boss, AccountFlag::Suspended, true),
            ] {
                assert!(add(boss, ada, "again").await);
                assert!(set(user, flag, lost).await);
                assert_eq!(store.login_as("again").await.unwrap(), None);
                assert!(!add(boss, ada, "refused").await);
                // It doesn't come back with the right.
                assert!(set(user, flag, !lost).await);
                assert_eq!(store.login_as("again").await.unwrap(), None, "{flag:?}");
            }
            assert!(add(boss, ada, "three").await);
            assert!(set(ada, AccountFlag::Admin, true).await);
            assert_eq!(store.login_as("three").await.unwrap(), None);
        })
        .await;
    }

    #[tokio::test]
    async fn a_token_ends_by_itself_or_with_all_sessions_of_who_asked_for_it() {
        each_database(async |store| {
            let boss = account(&store, user_id!("@boss:here"), true).await;
            let ada = account(&store, user_id!("@ada:here"), false).await;
            for hash in ["one", "two"] {
                assert!(store.add_login_as(boss, ada, hash, None).await.unwrap());
            }
            store.end_sessions(ada, None).await.unwrap();
            store.end_login_as(ada, "one").await.unwrap();
            assert_eq!(store.login_as("one").await.unwrap(), None);
            assert!(store.login_as("two").await.unwrap().is_some());
            store.end_sessions(boss, None).await.unwrap();
            assert_eq!(store.login_as("two").await.unwrap(), None);
            assert!(store.add_login_as(boss, ada, "three", None).await.unwrap());
            store.deactivate_account(ada, false).await.unwrap();
            assert_eq!(store.login_as("three").await.unwrap(), None);
        })
        .await;
    }
}
