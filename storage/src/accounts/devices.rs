//! Devices of local users.

use ruma::{DeviceId, OwnedDeviceId};
use sqlx::any::AnyRow;

use crate::engine::db::Columns as _;
use crate::engine::dialect::escaped;
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
}
