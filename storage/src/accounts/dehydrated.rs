//! The dehydrated device of a user (MSC3814).

use std::sync::Arc;

use ruma::OwnedDeviceId;

use super::sessions::{busy, changed, revoked};
use crate::engine::sql::Columns as _;
use crate::{
    AccountChange, DecidedOn, Dehydrated, DeviceKeys, Fact, KeyUpload, OneTimeKey, OneTimeKeys,
    Result, Store, UserNo,
};

/// How often it is decided again when the account was changed in the meantime.
const ATTEMPTS: u32 = 5;

/// A dehydrated device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DehydratedDevice {
    /// Its id.
    pub device: OwnedDeviceId,
    /// What it takes to rehydrate it: JSON as it came.
    pub data: Arc<str>,
}

/// A dehydrated device to be, with all its keys.
#[derive(Debug, Clone)]
pub struct NewDehydrated {
    /// Whose.
    pub user: UserNo,
    /// Which of their devices leaves it, if one does: if that is gone, nothing is stored.
    pub by: Option<OwnedDeviceId>,
    /// What becomes of it.
    pub device: DehydratedDevice,
    /// Its name.
    pub name: Option<String>,
    /// What it has signed of itself.
    pub keys: Arc<str>,
    /// One-time keys, in the order in which they are to be given out.
    pub one_time: Vec<OneTimeKey>,
    /// Fallback keys.
    pub fallback: Vec<OneTimeKey>,
}

/// What came of storing a dehydrated device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dehydration {
    /// It is stored.
    Done,
    /// Another device of the user has its id.
    IdTaken,
    /// The device that leaves it is gone.
    Ended,
}

impl Store {
    /// A user's dehydrated device.
    pub async fn dehydrated_device(&self, user: UserNo) -> Result<Option<DehydratedDevice>> {
        let query = self
            .sql("SELECT device_id, device_data FROM dehydrated_device WHERE user_no = $1")
            .bind(user);
        let row = self.row(query).await?;
        row.map(|row| {
            Ok(DehydratedDevice {
                device: row.get("device_id")?,
                data: row.get("device_data")?,
            })
        })
        .transpose()
    }

    /// Stores a dehydrated device, in the place of the one before: the device, its keys, and what everybody is told
    /// of it, in one moment.
    pub async fn dehydrate(&self, new: &NewDehydrated) -> Result<Dehydration> {
        for _ in 0..ATTEMPTS {
            let before = self.dehydrated_device(new.user).await?;
            let before = before.map(|before| before.device);
            if before.as_ref() != Some(&new.device.device)
                && self.device(new.user, &new.device.device).await?.is_some()
            {
                return Ok(Dehydration::IdTaken);
            }
            if self
                .change(new.facts(before, self.clock().now_ms()))
                .await?
            {
                return Ok(Dehydration::Done);
            }
            if let Some(by) = &new.by
                && self.device(new.user, by).await?.is_none()
            {
                return Ok(Dehydration::Ended);
            }
        }
        Err(busy())
    }

    /// Deletes a user's dehydrated device; its id, if there was one.
    pub async fn delete_dehydrated(&self, user: UserNo) -> Result<Option<OwnedDeviceId>> {
        for _ in 0..ATTEMPTS {
            let Some(DehydratedDevice { device, .. }) = self.dehydrated_device(user).await? else {
                return Ok(None);
            };
            if self.change(removal(user, &device)).await? {
                return Ok(Some(device));
            }
        }
        Err(busy())
    }
}

fn removal(user: UserNo, device: &OwnedDeviceId) -> Vec<Fact> {
    let told = [changed(user, device), revoked(user, Some(device))];
    let device = device.clone();
    let mut facts = vec![AccountChange::RemoveDehydrated { user, device }.into()];
    facts.extend(told);
    facts
}

impl NewDehydrated {
    fn facts(&self, before: Option<OwnedDeviceId>, now_ms: i64) -> Vec<Fact> {
        let (user, device) = (self.user, &self.device.device);
        let mut facts = Vec::new();
        if let Some(old) = before.as_ref().filter(|old| *old != device) {
            let devices = vec![old.clone()];
            facts.extend([changed(user, old), revoked(user, Some(old))]);
            facts.push(AccountChange::RemoveDevices { user, devices }.into());
        }
        let keys = DeviceKeys::Set {
            user,
            device: device.clone(),
            keys: self.keys.clone(),
            display_name: None,
            // It comes with them.
            expect_device: false,
        };
        let upload = KeyUpload {
            user,
            device: device.clone(),
            expect_device: false,
            decided_on: DecidedOn::Anything,
            keys: None,
            anew: true,
            one_time: self.one_time.clone(),
            fallback: self.fallback.clone(),
        };
        let dehydrated = Dehydrated {
            user,
            by: self.by.clone(),
            device: device.clone(),
            name: self.name.clone(),
            data: self.device.data.clone(),
            now_ms,
            replaces: before,
        };
        facts.extend([
            AccountChange::Dehydrate(dehydrated).into(),
            keys.into(),
            OneTimeKeys::Upload(upload).into(),
            changed(user, device),
        ]);
        facts
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::testing::{TestDatabase, each_database};
    use crate::{CommitError, NewAccount, NewLogin, NewTokens, WriteSet};

    fn new(user: UserNo, device: &str) -> NewDehydrated {
        NewDehydrated {
            user,
            by: None,
            device: DehydratedDevice {
                device: device.into(),
                data: format!("{{\"of\":\"{device}\"}}").into(),
            },
            name: None,
            keys: "{}".into(),
            one_time: Vec::new(),
            fallback: Vec::new(),
        }
    }

    #[tokio::test]
    async fn of_several_at_once_one_is_left() {
        for database in TestDatabase::both().await {
            let stores = [database.open().await, database.open().await];
            let account = NewAccount::default();
            let made = stores[0].create_account(user_id!("@ada:here"), account, None);
            let ada = made.await.unwrap().unwrap();
            let mut running = tokio::task::JoinSet::new();
            for n in 0..4 {
                let store = stores[n % 2].clone();
                running.spawn(async move {
                    match store.dehydrate(&new(ada, &format!("DRY{n}"))).await {
                        Ok(stored) => assert_eq!(stored, Dehydration::Done),
                        // Others were always quicker.
                        Err(error) => assert!(matches!(error, crate::Error::Busy(_))),
                    }
                });
            }
            while let Some(done) = running.join_next().await {
                done.unwrap();
            }
            let left = stores[0].dehydrated_device(ada).await.unwrap().unwrap();
            let of = format!("{{\"of\":\"{}\"}}", left.device);
            assert_eq!(&*left.data, of);
            let devices = stores[0].devices(ada).await.unwrap();
            let devices: Vec<_> = devices.iter().map(|device| &device.device_id).collect();
            assert_eq!(devices, [&left.device]);
            let keys = stores[0].device_keys(&[ada]).await.unwrap();
            assert_eq!(keys.len(), 1);
            assert_eq!(keys[0].device, left.device);
            let deleted = stores[1].delete_dehydrated(ada).await.unwrap();
            assert_eq!(deleted, Some(left.device));
            assert_eq!(stores[1].dehydrated_device(ada).await.unwrap(), None);
            assert!(stores[1].devices(ada).await.unwrap().is_empty());
            for store in stores {
                store.close().await;
            }
            database.remove().await;
        }
    }

    fn login(user: UserNo, device: &str) -> NewLogin {
        NewLogin {
            user,
            device_id: device.into(),
            device_name: None,
            ip: String::new(),
            now_ms: 1,
            tokens: NewTokens {
                access_hash: format!("{user} {device}"),
                refresh_hash: None,
                expires_ms: None,
                refresh_expires_ms: None,
            },
            proof: None,
            proved: false,
        }
    }

    async fn account(store: &Store, name: &str) -> UserNo {
        let id = ruma::UserId::parse(format!("@{name}:here")).unwrap();
        let made = store.create_account(&id, NewAccount::default(), None).await;
        made.unwrap().unwrap()
    }

    /// What is left of a user's devices: rows of `device`, of `dehydrated_device` and of `device_keys`.
    async fn left(store: &Store, user: UserNo) -> [usize; 3] {
        let dehydrated = store.dehydrated_device(user).await.unwrap();
        [
            store.devices(user).await.unwrap().len(),
            dehydrated.iter().count(),
            store.device_keys(&[user]).await.unwrap().len(),
        ]
    }

    /// Two write sets that the commit may take into one group; how each ends.
    async fn at_once(store: &Store, sets: [Vec<Fact>; 2]) -> [bool; 2] {
        let [first, second] = sets.map(WriteSet::from);
        let first = store.submit_without_haste(first).await.unwrap();
        let second = store.submit(second).await.unwrap();
        let ended = |outcome: std::result::Result<_, CommitError>| match outcome {
            Ok(_) => true,
            Err(CommitError::AccountMoved(_)) => false,
            Err(other) => panic!("{other}"),
        };
        [ended(first.await), ended(second.await)]
    }

    #[tokio::test]
    async fn what_ends_sessions_at_the_same_time_sees_it() {
        each_database(async |store| {
            let ending = |user, devices: &[&str]| AccountChange::EndSessions {
                user,
                except: None,
                devices: devices.iter().map(|device| (*device).into()).collect(),
            };
            let ada = account(&store, "ada").await;
            let first = || new(ada, "DRY").facts(None, 1);
            let again = || new(ada, "DRY").facts(Some("DRY".into()), 1);
            // Decided when there was no such device: decide again.
            let erase = None;
            let user = ada;
            let as_it = AccountChange::Login {
                login: login(ada, "DRY"),
                known: false,
            };
            for late in [vec![ending(ada, &[]).into()], vec![as_it.into()]] {
                assert_eq!(at_once(&store, [first(), late]).await, [true, false]);
                assert_eq!(left(&store, ada).await, [1, 1, 1]);
                assert_eq!(
                    store.delete_dehydrated(ada).await.unwrap(),
                    Some("DRY".into())
                );
                assert_eq!(left(&store, ada).await, [0, 0, 0]);
            }
            // Decided on it: it goes, with all that is its own, whichever is first.
            let gone = || removal(ada, &"DRY".into());
            let all = || vec![ending(ada, &["DRY"]).into()];
            for (sets, outcome) in [
                ([again(), gone()], [true, true]),
                ([gone(), again()], [true, false]),
                ([again(), all()], [true, true]),
                ([all(), again()], [true, false]),
            ] {
                assert!(store.change(first()).await.unwrap());
                assert_eq!(at_once(&store, sets).await, outcome);
                assert_eq!(left(&store, ada).await, [0, 0, 0]);
            }
            let end = AccountChange::Deactivate {
                user,
                erase,
                task: None,
            };
            let end = vec![end.into(), ending(ada, &[]).into()];
            assert_eq!(at_once(&store, [end, first()]).await, [true, false]);
            assert_eq!(left(&store, ada).await, [0, 0, 0]);
        })
        .await;
    }

    #[tokio::test]
    async fn who_has_logged_in_as_it_is_not_deleted_as_it() {
        each_database(async |store| {
            let ada = account(&store, "ada").await;
            store.dehydrate(&new(ada, "DRY")).await.unwrap();
            let decided = removal(ada, &"DRY".into());
            assert!(store.log_in(&login(ada, "DRY")).await.unwrap());
            assert!(!store.change(decided).await.unwrap());
            assert_eq!(store.devices(ada).await.unwrap().len(), 1);
            assert_eq!(store.delete_dehydrated(ada).await.unwrap(), None);
        })
        .await;
    }

    #[tokio::test]
    async fn a_device_that_is_gone_leaves_none() {
        each_database(async |store| {
            let ada = account(&store, "ada").await;
            let dry = NewDehydrated {
                by: Some("LAPTOP".into()),
                ..new(ada, "DRY")
            };
            assert_eq!(store.dehydrate(&dry).await.unwrap(), Dehydration::Ended);
            assert!(store.log_in(&login(ada, "LAPTOP")).await.unwrap());
            assert_eq!(store.dehydrate(&dry).await.unwrap(), Dehydration::Done);
            store.deactivate_account(ada, false).await.unwrap();
            assert_eq!(store.dehydrate(&dry).await.unwrap(), Dehydration::Ended);
            assert!(store.dehydrate(&new(ada, "DRY")).await.is_err());
            assert_eq!(left(&store, ada).await, [0, 0, 0]);
        })
        .await;
    }
}
