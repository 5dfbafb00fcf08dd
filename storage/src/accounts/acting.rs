//! Users for whom application services act, and that these are to be read again.

use ruma::{DeviceId, UserId};

use crate::engine::sql::Columns as _;
use crate::facts::appservice_reload::AppserviceReload;
use crate::{Result, Store, UserNo};

/// An account, as whoever acts for it needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    /// The user's number.
    pub user: UserNo,
    /// Whether it is a guest's.
    pub is_guest: bool,
    /// Whether it can do nothing but log out.
    pub is_locked: bool,
    /// Whether it can only read.
    pub is_suspended: bool,
    /// Whether it has ended.
    pub deactivated: bool,
    /// Whether nobody may log in until the operator has approved it.
    pub awaits_approval: bool,
    /// When the device was seen last, in milliseconds since 1970; `None` if there is no such device, or none was asked for.
    pub seen_ms: Option<i64>,
}

impl Store {
    /// The account of a user and one of its devices. `None` if there is no account, nor was one.
    pub async fn actor(&self, user: &UserId, device: Option<&DeviceId>) -> Result<Option<Actor>> {
        let Some(user) = self.known_user(user).await? else {
            return Ok(None);
        };
        let query = self
            .sql(
                "SELECT a.deactivated, a.locked, a.suspended, \
                 (SELECT COUNT(*) FROM guest g WHERE g.user_no = a.user_no) AS is_guest, \
                 (SELECT COUNT(*) FROM awaiting_approval w WHERE w.user_no = a.user_no) AS awaits, \
                 (SELECT d.last_seen_ms FROM device d WHERE d.user_no = a.user_no AND d.device_id = $2) AS seen_ms \
                 FROM account a WHERE a.user_no = $1",
            )
            .bind(user)
            .bind(device);
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        Ok(Some(Actor {
            user,
            is_guest: row.get("is_guest")?,
            is_locked: row.get("locked")?,
            is_suspended: row.get("suspended")?,
            deactivated: row.get("deactivated")?,
            awaits_approval: row.get("awaits")?,
            seen_ms: row.get("seen_ms")?,
        }))
    }
}

impl Store {
    /// Says to all processes that the registrations of application services are to be read again.
    pub async fn reload_appservices(&self) -> Result<()> {
        let asked_ms = self.clock().now_ms();
        self.change(vec![AppserviceReload { asked_ms }.into()])
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::testing::each_database;
    use crate::{AccountFlag, NewAccount};

    #[tokio::test]
    async fn a_device_without_tokens_is_one_like_others() {
        each_database(async |store| {
            let ada = user_id!("@ada:here");
            assert_eq!(store.actor(ada, None).await.unwrap(), None);
            let no = store.user_no(ada).await.unwrap();
            assert_eq!(store.actor(ada, None).await.unwrap(), None);
            let device: &DeviceId = "BRIDGE".into();
            let add = async || {
                let name = Some("a\u{0}b".to_owned());
                store
                    .add_device(no, device, name, Some("::1".into()))
                    .await
                    .unwrap()
            };
            assert!(!add().await, "there is no account");
            let account = NewAccount::default();
            store.create_account(ada, account, None).await.unwrap();
            let actor = store.actor(ada, Some(device)).await.unwrap().unwrap();
            assert_eq!((actor.user, actor.seen_ms), (no, None));
            assert!(add().await);
            assert!(!add().await, "it is there");
            let known = store.device(no, device).await.unwrap().unwrap();
            assert_eq!(known.name.as_deref(), Some("a\u{0}b"));
            assert_eq!(known.last_seen_ip.as_deref(), Some("::1"));
            let actor = store.actor(ada, Some(device)).await.unwrap().unwrap();
            assert_eq!(actor.seen_ms, Some(known.last_seen_ms));

            store
                .set_account_flag(no, AccountFlag::Suspended, true)
                .await
                .unwrap();
            store
                .set_account_flag(no, AccountFlag::Locked, true)
                .await
                .unwrap();
            let actor = store.actor(ada, None).await.unwrap().unwrap();
            assert!(actor.is_locked && actor.is_suspended && !actor.is_guest);
            store.deactivate_account(no, false).await.unwrap();
            let actor = store.actor(ada, Some(device)).await.unwrap().unwrap();
            assert!(actor.deactivated);
            assert_eq!(actor.seen_ms, None);
            assert!(!add().await, "the account has ended");
        })
        .await;
    }
}
