//! The dehydrated device of a user (MSC3814).

use std::sync::Arc;

use ruma::OwnedDeviceId;

use super::sessions::{busy, revoked};
use crate::engine::sql::Columns as _;
use crate::{
    AccountChange, Dehydrated, DeviceKeys, DeviceList, Fact, KeyUpload, OneTimeKey, OneTimeKeys,
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
            facts.push(revoked(user, Some(old)));
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
            DeviceList { user }.into(),
        ]);
        facts
    }
}
