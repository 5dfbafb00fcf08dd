//! Reading device keys, cross-signing keys and the signatures that were added to them: for many users at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use rhizome_protocol::device_keys::KeyUsage;
use ruma::OwnedDeviceId;

use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::{Result, Store, UserNo};

/// What a device has signed of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeviceKeys {
    /// Whose device.
    pub user: UserNo,
    /// Which.
    pub device: OwnedDeviceId,
    /// JSON without `unsigned`.
    pub keys: Arc<str>,
    /// The device's name.
    pub display_name: Option<String>,
}

/// A signature that was added to a key after that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSignature {
    /// Whose key is signed.
    pub target_user: UserNo,
    /// Which: a device's id, or the public key of a cross-signing key.
    pub target_id: String,
    /// Who signed.
    pub signer: UserNo,
    /// With which key, as `signatures` names it.
    pub signer_key: String,
    /// The signature.
    pub signature: String,
}

rows! {
    struct Asked<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
    }
}

fn device_keys(row: &ReadRow) -> Result<StoredDeviceKeys> {
    Ok(StoredDeviceKeys {
        user: row.get("user_no")?,
        device: row.get("device_id")?,
        keys: row.get("keys")?,
        display_name: row.get("name")?,
    })
}

impl Store {
    /// The keys of all devices of some users, by user and device.
    pub async fn device_keys(&self, users: &[UserNo]) -> Result<Vec<StoredDeviceKeys>> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let query = self
            .sql(
                "SELECT k.user_no, k.device_id, k.keys, COALESCE(k.display_name, d.name) AS name \
                 FROM device_keys k \
                 LEFT JOIN device d ON d.user_no = k.user_no AND d.device_id = k.device_id \
                 WHERE k.user_no IN NUMBERS($1) ORDER BY k.user_no, k.device_id",
            )
            .numbers(users.iter().copied());
        self.rows(query).await?.iter().map(device_keys).collect()
    }

    /// The keys of some devices; of those that have none, nothing.
    pub async fn device_keys_of(
        &self,
        devices: &[(UserNo, OwnedDeviceId)],
    ) -> Result<Vec<StoredDeviceKeys>> {
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        let asked: Vec<_> = (devices.iter())
            .map(|(user_no, device_id)| Asked {
                user_no: *user_no,
                device_id,
            })
            .collect();
        let query = self
            .sql(
                "SELECT k.user_no, k.device_id, k.keys, COALESCE(k.display_name, d.name) AS name \
                 FROM ROWS($1) AS x \
                 JOIN device_keys k ON k.user_no = x.user_no AND k.device_id = x.device_id \
                 LEFT JOIN device d ON d.user_no = k.user_no AND d.device_id = k.device_id",
            )
            .rows(&asked);
        self.rows(query).await?.iter().map(device_keys).collect()
    }

    /// The cross-signing keys of some users.
    pub async fn cross_signing_keys(
        &self,
        users: &[UserNo],
    ) -> Result<BTreeMap<UserNo, BTreeMap<KeyUsage, Arc<str>>>> {
        let mut found: BTreeMap<UserNo, BTreeMap<KeyUsage, Arc<str>>> = BTreeMap::new();
        if users.is_empty() {
            return Ok(found);
        }
        let query = self
            .sql("SELECT user_no, usage, key FROM cross_signing_key WHERE user_no IN NUMBERS($1)")
            .numbers(users.iter().copied());
        for row in self.rows(query).await? {
            if let Some(usage) = KeyUsage::parse(&row.get::<String>("usage")?) {
                let keys = found.entry(row.get("user_no")?).or_default();
                keys.insert(usage, row.get("key")?);
            }
        }
        Ok(found)
    }

    /// The signatures that were added to keys of some users and that `viewer` may see: those that users have made of
    /// their own keys, and the viewer's (of a user here; `None` is a server).
    pub async fn key_signatures(
        &self,
        users: &[UserNo],
        viewer: Option<UserNo>,
    ) -> Result<Vec<StoredSignature>> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let query = self
            .sql(
                "SELECT target_user, target_id, signer, signer_key, signature FROM key_signature \
                 WHERE target_user IN NUMBERS($1) AND (signer = target_user OR signer = $2)",
            )
            .numbers(users.iter().copied())
            .bind(viewer);
        let rows = self.rows(query).await?;
        let signature = |row: &ReadRow| {
            Ok(StoredSignature {
                target_user: row.get("target_user")?,
                target_id: row.get("target_id")?,
                signer: row.get("signer")?,
                signer_key: row.get("signer_key")?,
                signature: row.get("signature")?,
            })
        };
        rows.iter().map(signature).collect()
    }
}
