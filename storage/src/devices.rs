//! Devices of local users.

use ruma::{DeviceId, OwnedDeviceId};
use sqlx::any::AnyRow;

use crate::db::{Columns as _, json_texts};
use crate::dialect::escaped;
use crate::{Result, Store, UserNo};

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDevice {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// Its name.
    pub name: Option<String>,
    /// From where it was seen last.
    pub last_seen_ip: Option<String>,
    /// When, in milliseconds since 1970.
    pub last_seen_ms: i64,
}

const COLUMNS: usize = 4;

fn device(row: &AnyRow) -> Result<StoredDevice> {
    debug_assert_eq!(sqlx::Row::len(row), COLUMNS);
    Ok(StoredDevice {
        device_id: row.text(0)?.into(),
        name: row.text_opt(1)?,
        last_seen_ip: row.raw_opt(2)?,
        last_seen_ms: row.int(3)?,
    })
}

impl Store {
    /// A user's devices, by id.
    pub async fn devices(&self, user: UserNo) -> Result<Vec<StoredDevice>> {
        let query = self
            .sql(
                "SELECT device_id, name, last_seen_ip, last_seen_ms FROM device \
                 WHERE user_no = $1 ORDER BY device_id",
            )
            .bind(user.0);
        self.rows(query).await?.iter().map(device).collect()
    }

    /// One of a user's devices.
    pub async fn device(&self, user: UserNo, id: &DeviceId) -> Result<Option<StoredDevice>> {
        let query = self
            .sql(
                "SELECT device_id, name, last_seen_ip, last_seen_ms FROM device \
                 WHERE user_no = $1 AND device_id = $2",
            )
            .bind(user.0)
            .bind(escaped(id.as_str()).into_owned());
        self.row(query).await?.as_ref().map(device).transpose()
    }

    /// Names a device; `false` if there is none.
    pub async fn rename_device(&self, user: UserNo, id: &DeviceId, name: &str) -> Result<bool> {
        let query = self
            .sql("UPDATE device SET name = $3 WHERE user_no = $1 AND device_id = $2")
            .bind(user.0)
            .bind(escaped(id.as_str()).into_owned())
            .bind(escaped(name).into_owned());
        Ok(self.execute(query).await? == 1)
    }

    /// Records that a device was seen.
    pub async fn see_device(&self, user: UserNo, id: &DeviceId, now_ms: i64) -> Result<()> {
        let query = self
            .sql("UPDATE device SET last_seen_ms = $3 WHERE user_no = $1 AND device_id = $2")
            .bind(user.0)
            .bind(escaped(id.as_str()).into_owned())
            .bind(now_ms);
        self.execute(query).await?;
        Ok(())
    }

    /// Removes devices with their tokens. That their tokens ended and the device list changed is to be
    /// committed as facts.
    pub async fn delete_devices(&self, user: UserNo, ids: &[OwnedDeviceId]) -> Result<()> {
        let ids = json_texts(ids.iter().map(|id| id.as_str()))?;
        let mut tx = self.begin().await?;
        for text in [
            "DELETE FROM access_token WHERE user_no = $1 \
             AND device_id IN (SELECT value ->> 0 FROM EACH($2))",
            "DELETE FROM refresh_token WHERE user_no = $1 \
             AND device_id IN (SELECT value ->> 0 FROM EACH($2))",
            "DELETE FROM device WHERE user_no = $1 \
             AND device_id IN (SELECT value ->> 0 FROM EACH($2))",
        ] {
            let query = tx.sql(text).bind(user.0).bind(ids.clone());
            tx.execute(query).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}
