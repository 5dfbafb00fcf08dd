//! Devices of local users.

use ruma::{DeviceId, OwnedDeviceId};

use crate::engine::sql::{Columns as _, ReadRow};
use crate::{AccountChange, CommitError, Error, Result, Store, UserNo};

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

fn device(row: &ReadRow) -> Result<StoredDevice> {
    Ok(StoredDevice {
        device_id: row.get("device_id")?,
        name: row.get("name")?,
        last_seen_ip: row.get("last_seen_ip")?,
        last_seen_ms: row.get("last_seen_ms")?,
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
            .bind(user);
        self.rows(query).await?.iter().map(device).collect()
    }

    /// From where a user's devices were seen last, the latest first, of so many.
    pub async fn last_addresses(&self, user: UserNo, limit: usize) -> Result<Vec<String>> {
        let query = self
            .sql(
                "SELECT last_seen_ip FROM device WHERE user_no = $1 AND last_seen_ip IS NOT NULL \
                 ORDER BY last_seen_ms DESC, device_id LIMIT $2",
            )
            .bind(user)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("last_seen_ip")).collect()
    }

    /// One of a user's devices.
    pub async fn device(&self, user: UserNo, id: &DeviceId) -> Result<Option<StoredDevice>> {
        let query = self
            .sql(
                "SELECT device_id, name, last_seen_ip, last_seen_ms FROM device \
                 WHERE user_no = $1 AND device_id = $2",
            )
            .bind(user)
            .bind(id);
        self.row(query).await?.as_ref().map(device).transpose()
    }

    /// The ids of all devices of these users.
    pub async fn device_ids(&self, users: &[UserNo]) -> Result<Vec<(UserNo, OwnedDeviceId)>> {
        let query = self
            .sql("SELECT user_no, device_id FROM device WHERE user_no IN NUMBERS($1)")
            .numbers(users.iter().copied());
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| Ok((row.get("user_no")?, row.get("device_id")?)))
            .collect()
    }

    /// Notes that a device was seen, with whatever is written next: nobody waits for that, and where much waits
    /// to be written, it is left for the next time.
    pub async fn see_device(
        &self,
        user: UserNo,
        id: &DeviceId,
        ip: Option<String>,
        now_ms: i64,
    ) -> Result<()> {
        let seen = AccountChange::Seen {
            user,
            device: id.to_owned(),
            ip,
            now_ms,
        };
        match self.leave(vec![seen.into()].into()).await {
            Ok(()) => Ok(()),
            Err(CommitError::Store(error)) => Err(error),
            Err(other) => Err(Error::broken(other.to_string())),
        }
    }
}
