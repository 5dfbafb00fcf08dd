//! The accounts of this server, for whoever looks after them.

use ruma::OwnedUserId;

use crate::engine::sql::Columns as _;
use crate::{Result, Store, UserNo};

/// An account in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedAccount {
    /// The user's number.
    pub user: UserNo,
    /// Their id.
    pub user_id: OwnedUserId,
    /// Whether it administers the server.
    pub admin: bool,
    /// Whether it has ended.
    pub deactivated: bool,
    /// Whether it can do nothing but log out.
    pub locked: bool,
    /// Whether it can only read.
    pub suspended: bool,
    /// Whether it is a guest's.
    pub is_guest: bool,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: i64,
    /// When one of its devices was seen last, if it has any.
    pub last_seen_ms: Option<i64>,
}

impl Store {
    /// Whether a user's account is locked.
    pub async fn is_locked(&self, user: UserNo) -> Result<bool> {
        let query = self
            .sql("SELECT locked FROM account WHERE user_no = $1")
            .bind(user);
        let row = self.row(query).await?;
        row.map_or(Ok(false), |row| row.get("locked"))
    }

    /// At most `limit` accounts after that of this user, in the order of their numbers.
    pub async fn accounts(&self, after: UserNo, limit: usize) -> Result<Vec<ListedAccount>> {
        let query = self
            .sql(
                "SELECT a.user_no, u.user_id, a.admin, a.deactivated, a.locked, a.suspended, a.created_ms, \
                 (SELECT COUNT(*) FROM guest g WHERE g.user_no = a.user_no) AS is_guest, \
                 (SELECT MAX(d.last_seen_ms) FROM device d WHERE d.user_no = a.user_no) AS last_seen_ms \
                 FROM account a JOIN user_name u ON u.no = a.user_no \
                 WHERE a.user_no > $1 ORDER BY a.user_no LIMIT $2",
            )
            .bind(after)
            .bind(limit);
        let rows = self.rows(query).await?;
        let accounts = rows.iter().map(|row| {
            Ok(ListedAccount {
                user: row.get("user_no")?,
                user_id: row.get("user_id")?,
                admin: row.get("admin")?,
                deactivated: row.get("deactivated")?,
                locked: row.get("locked")?,
                suspended: row.get("suspended")?,
                is_guest: row.get("is_guest")?,
                created_ms: row.get("created_ms")?,
                last_seen_ms: row.get("last_seen_ms")?,
            })
        });
        accounts.collect()
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::testing::each_database;
    use crate::{AccountFlag, NewAccount};

    #[tokio::test]
    async fn flags_are_set_and_told() {
        each_database(async |store| {
            let (ada, bob) = (user_id!("@ada:here"), user_id!("@bob:here"));
            let mut made = Vec::new();
            for user in [ada, bob] {
                let new = store.create_account(user, NewAccount::default(), None);
                made.push(new.await.unwrap().unwrap());
            }
            let since = store.log().head();
            let set = async |user, flag, on| store.set_account_flag(user, flag, on).await.unwrap();
            assert!(set(made[0], AccountFlag::Admin, true).await);
            assert!(set(made[0], AccountFlag::Locked, true).await);
            assert!(set(made[1], AccountFlag::Suspended, true).await);
            assert!(set(made[1], AccountFlag::Suspended, false).await);
            assert_eq!(store.log().head().0, since.0 + 4);
            let nobody = store.user_no(user_id!("@nobody:here")).await.unwrap();
            assert!(!set(nobody, AccountFlag::Locked, true).await);
            let account = store.account(ada).await.unwrap().unwrap();
            assert!(account.admin && account.locked && !account.suspended);
            let first = store.accounts(UserNo(0), 1).await.unwrap();
            let second = store.accounts(first[0].user, 10).await.unwrap();
            assert_eq!((first.len(), second.len()), (1, 1));
            let of_ada = first.iter().chain(&second).find(|one| one.user_id == ada);
            assert!(of_ada.unwrap().locked);
            assert_eq!(of_ada.unwrap().last_seen_ms, None);
            let of_bob = first.iter().chain(&second).find(|one| one.user_id == bob);
            assert!(!of_bob.unwrap().suspended);
            store.deactivate_account(made[1], false).await.unwrap();
            assert!(!set(made[1], AccountFlag::Locked, true).await);
        })
        .await;
    }
}
