//! The dehydrated device of a user (MSC3814).

use std::sync::Arc;

use ruma::OwnedDeviceId;

use super::sessions::{busy, changed, revoked};
use crate::engine::sql::Columns as _;
use crate::{
    AccountChange, Dehydrated, DeviceKeys, Fact, KeyUpload, OneTimeKey, OneTimeKeys, Result, Store,
    UserNo,
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
    /// of it, in one moment. `false` if another device of the user has its id.
    pub async fn dehydrate(&self, new: &NewDehydrated) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            let before = self.dehydrated_device(new.user).await?;
            let before = before.map(|before| before.device);
            if before.as_ref() != Some(&new.device.device)
                && self.device(new.user, &new.device.device).await?.is_some()
            {
                return Ok(false);
            }
            if self
                .change(new.facts(before, self.clock().now_ms()))
                .await?
            {
                return Ok(true);
            }
        }
        Err(busy())
    }

    /// Deletes a user's dehydrated device; its id, if there was one.
    pub async fn delete_dehydrated(&self, user: UserNo) -> Result<Option<OwnedDeviceId>> {
        let Some(found) = self.dehydrated_device(user).await? else {
            return Ok(None);
        };
        let devices = std::slice::from_ref(&found.device);
        self.remove_devices(user, devices).await?;
        Ok(Some(found.device))
    }
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
            anew: true,
            one_time: self.one_time.clone(),
            fallback: self.fallback.clone(),
        };
        let dehydrated = Dehydrated {
            user,
            device: device.clone(),
            name: self.name.clone(),
            data: self.device.data.clone(),
            now_ms,
            replaces: before,
        };
        facts.extend([
            dehydrated.into(),
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
    use crate::NewAccount;
    use crate::testing::TestDatabase;

    fn new(user: UserNo, device: &str) -> NewDehydrated {
        NewDehydrated {
            user,
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
                        Ok(stored) => assert!(stored),
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
}
