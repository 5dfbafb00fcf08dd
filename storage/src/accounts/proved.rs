//! On which device was proved of late whose it is: who has just done it needn't do it again.

use ruma::DeviceId;

use crate::engine::sql::Columns as _;
use crate::facts::account::AccountChange;
use crate::{Result, Store, UserNo};

impl Store {
    /// When who uses a device proved whose it is, in milliseconds since 1970; `None` if not since the device's session
    /// began, or not since the password was changed.
    pub async fn proved_ms(&self, user: UserNo, device: &DeviceId) -> Result<Option<i64>> {
        let query = self
            .sql("SELECT proved_ms FROM device WHERE user_no = $1 AND device_id = $2")
            .bind(user)
            .bind(device);
        let row = self.row(query).await?;
        row.map_or(Ok(None), |row| row.get("proved_ms"))
    }

    /// Who uses a device has proved whose it is: by the password of which this is the [mark](password_mark), or otherwise, as
    /// the account has none. `false`, and nothing of it, if that isn't so any more.
    pub async fn prove(
        &self,
        (user, device): (UserNo, &DeviceId),
        mark: Option<&str>,
        at_ms: i64,
    ) -> Result<bool> {
        let proved = AccountChange::Proved {
            user,
            device: device.to_owned(),
            mark: mark.map(ToOwned::to_owned),
            at_ms,
        };
        self.change(vec![proved.into()]).await
    }
}

#[cfg(test)]
mod tests {
    use ruma::{device_id, user_id};

    use super::*;
    use crate::password_mark;
    use crate::testing::each_database;
    use crate::{Ends, NewAccount, NewLogin, NewTokens};

    async fn account(store: &Store, name: &str, password: Option<&str>) -> UserNo {
        let account = NewAccount {
            password_hash: password.map(ToOwned::to_owned),
            ..NewAccount::default()
        };
        let user = ruma::UserId::parse(format!("@{name}:here")).unwrap();
        let made = store.create_account(&user, account, None).await;
        made.unwrap().unwrap()
    }

    async fn log_in(store: &Store, user: UserNo, (device, token): (&str, &str), proved: bool) {
        let login = NewLogin {
            user,
            device_id: device.into(),
            device_name: None,
            ip: "::1".into(),
            now_ms: 7,
            tokens: NewTokens {
                access_hash: token.into(),
                refresh_hash: None,
                expires_ms: None,
                refresh_expires_ms: None,
            },
            proof: None,
            proved,
        };
        assert!(store.log_in(&login).await.unwrap());
    }

    #[tokio::test]
    async fn what_is_proved_is_so_of_one_session_and_one_password() {
        each_database(async |store| {
            let ada = account(&store, "ada", Some("$old")).await;
            let (a, b) = (device_id!("A"), device_id!("B"));
            let at = async |device: &DeviceId| store.proved_ms(ada, device).await.unwrap();
            let prove = async |device: &DeviceId, hash: Option<&str>, at_ms| {
                let mark = hash.map(password_mark);
                let proved = store.prove((ada, device), mark.as_deref(), at_ms);
                proved.await.unwrap()
            };
            log_in(&store, ada, ("A", "1"), true).await;
            log_in(&store, ada, ("B", "2"), false).await;
            assert_eq!((at(a).await, at(b).await), (Some(7), None));
            assert_eq!(at(device_id!("C")).await, None);
            assert!(prove(a, Some("$old"), 20).await);
            assert_eq!((at(a).await, at(b).await), (Some(20), None));
            // It doesn't become older.
            assert!(prove(a, Some("$old"), 10).await);
            assert_eq!(at(a).await, Some(20));
            for other in [Some("$new"), Some(""), None] {
                assert!(!prove(b, other, 30).await, "{other:?}");
            }
            assert_eq!(at(b).await, None);
            assert!(prove(b, Some("$old"), 30).await);
            // Another session of the device has proved nothing.
            log_in(&store, ada, ("A", "3"), false).await;
            assert_eq!((at(a).await, at(b).await), (None, Some(30)));
            let kept = Ends::Nothing;
            store.set_password(ada, "$new", kept).await.unwrap();
            assert_eq!(at(b).await, None);
            assert!(!prove(b, Some("$old"), 40).await);
            assert!(prove(b, Some("$new"), 40).await);
            store.deactivate_account(ada, false).await.unwrap();
            assert!(!prove(b, Some("$new"), 50).await);
        })
        .await;
    }

    #[tokio::test]
    async fn who_has_no_password_proves_it_otherwise() {
        each_database(async |store| {
            let ada = account(&store, "ada", None).await;
            log_in(&store, ada, ("A", "1"), false).await;
            let device = device_id!("A");
            let mark = password_mark("");
            let by_password = store.prove((ada, device), Some(&mark), 10);
            assert!(!by_password.await.unwrap());
            assert!(store.prove((ada, device), None, 10).await.unwrap());
            assert_eq!(store.proved_ms(ada, device).await.unwrap(), Some(10));
            store.set_password(ada, "$x", Ends::Nothing).await.unwrap();
            assert_eq!(store.proved_ms(ada, device).await.unwrap(), None);
            assert!(!store.prove((ada, device), None, 20).await.unwrap());
            let nobody = store.user_no(user_id!("@nobody:here")).await.unwrap();
            assert!(!store.prove((nobody, device), None, 20).await.unwrap());
        })
        .await;
    }
}
