//! A user's list of devices as their server tells it: checked, bounded, and held against what is remembered.

use std::collections::BTreeMap;
use std::sync::Arc;

use rhizome_protocol::device_keys::{CrossSigningKey, DeviceKeys, KeyUsage};
use rhizome_storage::{CrossSigningKeys, Error, Fact, Store, UserNo};
use ruma::{DeviceId, OwnedDeviceId, UserId};
use serde::Deserialize;
use serde_json::Value;

use super::{MAX_BYTES, MAX_DEVICES, MAX_NAME};

/// A device in an answer.
#[derive(Deserialize)]
pub(super) struct OneDevice {
    device_id: OwnedDeviceId,
    keys: Option<Value>,
    device_display_name: Option<String>,
}

impl OneDevice {
    /// One in an answer about keys, which has its name in `unsigned`.
    pub(super) fn queried((device_id, keys): (OwnedDeviceId, Value)) -> Self {
        let name = keys
            .pointer("/unsigned/device_display_name")
            .and_then(Value::as_str)
            .map(str::to_owned);
        Self {
            device_id,
            keys: Some(keys),
            device_display_name: name,
        }
    }
}

/// A device with its keys as they are kept, and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) keys: Arc<str>,
    pub(super) name: Option<String>,
}

/// What is taken of a user's list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct List {
    /// Which of the server's updates is the last in it, if it says.
    pub(super) stream_id: Option<i64>,
    /// The devices that have keys.
    pub(super) devices: BTreeMap<OwnedDeviceId, Kept>,
    /// The cross-signing keys that others may see.
    pub(super) cross_signing: BTreeMap<KeyUsage, Arc<str>>,
}

/// Why a list isn't taken.
#[derive(Debug, thiserror::Error)]
#[error("the list has more than {MAX_DEVICES} devices or {MAX_BYTES} bytes of keys")]
pub(super) struct TooMuch;

/// Reads a device's keys; `None` if they aren't what keys must be.
pub(super) fn read_device(
    user: &UserId,
    device: &DeviceId,
    keys: Value,
    name: Option<String>,
) -> Option<Kept> {
    let Value::Object(keys) = keys else {
        return None;
    };
    if device.as_str().is_empty() || device.as_str().len() > MAX_NAME {
        return None;
    }
    match DeviceKeys::read(keys, user, device) {
        Ok(read) => Some(Kept {
            keys: read.json.into(),
            name: name.filter(|name| name.len() <= MAX_NAME),
        }),
        Err(error) => {
            tracing::debug!(%user, %device, %error, "a device's keys are not taken");
            None
        }
    }
}

/// Reads cross-signing keys: the master key, and the self-signing key if that has signed it.
pub(super) fn read_cross_signing(
    user: &UserId,
    master: Option<Value>,
    self_signing: Option<Value>,
) -> BTreeMap<KeyUsage, Arc<str>> {
    let mut kept = BTreeMap::new();
    let read = |key: Option<Value>, usage| match key {
        Some(Value::Object(key)) => match CrossSigningKey::read(key, user, usage) {
            Ok(key) => Some(key),
            Err(error) => {
                tracing::info!(%user, %error, "a cross-signing key is not taken");
                None
            }
        },
        _ => None,
    };
    let Some(master) = read(master, KeyUsage::Master) else {
        return kept;
    };
    if let Some(key) = read(self_signing, KeyUsage::SelfSigning) {
        match key.is_signed_by(user, &master) {
            Ok(()) => drop(kept.insert(KeyUsage::SelfSigning, Arc::from(key.json))),
            Err(error) => tracing::info!(%user, %error, "a self-signing key is not taken"),
        }
    }
    kept.insert(KeyUsage::Master, Arc::from(master.json));
    kept
}

impl List {
    /// What is taken of an answer: devices whose keys are in order.
    pub(super) fn of(
        user: &UserId,
        devices: Vec<OneDevice>,
        master: Option<Value>,
        self_signing: Option<Value>,
    ) -> Result<Self, TooMuch> {
        if devices.len() > MAX_DEVICES {
            return Err(TooMuch);
        }
        let mut list = Self {
            cross_signing: read_cross_signing(user, master, self_signing),
            ..Self::default()
        };
        let mut bytes: usize = list.cross_signing.values().map(|key| key.len()).sum();
        let mut refused = 0_usize;
        for device in devices {
            let Some(keys) = device.keys else { continue };
            let name = device.device_display_name;
            match read_device(user, &device.device_id, keys, name) {
                Some(kept) => {
                    bytes += kept.keys.len();
                    list.devices.insert(device.device_id, kept);
                }
                None => refused += 1,
            }
            if bytes > MAX_BYTES {
                return Err(TooMuch);
            }
        }
        if refused > 0 {
            tracing::info!(%user, refused, "keys of devices are not taken");
        }
        Ok(list)
    }

    /// What is remembered of some users.
    pub(super) async fn stored(
        store: &Store,
        users: &[UserNo],
    ) -> Result<BTreeMap<UserNo, Self>, Error> {
        let mut lists: BTreeMap<UserNo, Self> = BTreeMap::new();
        for one in store.device_keys(users).await? {
            let kept = Kept {
                keys: one.keys,
                name: one.display_name,
            };
            let list = lists.entry(one.user).or_default();
            list.devices.insert(one.device, kept);
        }
        for (user, keys) in store.cross_signing_keys(users).await? {
            lists.entry(user).or_default().cross_signing = keys;
        }
        Ok(lists)
    }

    /// What has to be written so that this is remembered where `before` was.
    pub(super) fn replacing(&self, user: UserNo, before: &Self) -> Vec<Fact> {
        let mut facts = Vec::new();
        for device in before.devices.keys() {
            if !self.devices.contains_key(device) {
                facts.push(removed(user, device.clone()));
            }
        }
        for (device, kept) in &self.devices {
            if before.devices.get(device) != Some(kept) {
                facts.push(kept.set(user, device.clone()));
            }
        }
        facts.extend(cross_signing(
            user,
            &self.cross_signing,
            &before.cross_signing,
        ));
        facts
    }
}

impl Kept {
    /// It is remembered.
    pub(super) fn set(&self, user: UserNo, device: OwnedDeviceId) -> Fact {
        rhizome_storage::DeviceKeys::Set {
            user,
            device,
            keys: self.keys.clone(),
            display_name: self.name.clone(),
            expect_device: false,
        }
        .into()
    }
}

/// A device is forgotten.
pub(super) fn removed(user: UserNo, device: OwnedDeviceId) -> Fact {
    rhizome_storage::DeviceKeys::Remove { user, device }.into()
}

/// Cross-signing keys take the place of others, if they are others.
pub(super) fn cross_signing(
    user: UserNo,
    now: &BTreeMap<KeyUsage, Arc<str>>,
    before: &BTreeMap<KeyUsage, Arc<str>>,
) -> Option<Fact> {
    let usages = [KeyUsage::Master, KeyUsage::SelfSigning];
    let (mut keys, mut replaced) = (Vec::new(), Vec::new());
    for usage in usages {
        let (key, old) = (now.get(&usage), before.get(&usage));
        if key != old {
            keys.push((usage, key.cloned()));
            let public = old.and_then(|old| public_of(old));
            let same = key.and_then(|key| public_of(key)) == public;
            replaced.extend(public.filter(|_| !same));
        }
    }
    (!keys.is_empty()).then(|| {
        CrossSigningKeys {
            user,
            keys,
            expect: None,
            replaced,
        }
        .into()
    })
}

/// The public key by which a cross-signing key is known.
fn public_of(key: &str) -> Option<String> {
    let key: Value = serde_json::from_str(key).ok()?;
    let name = key.get("keys")?.as_object()?.keys().next()?;
    Some(name.strip_prefix("ed25519:")?.to_owned())
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_bounded_in_bytes() {
        let device = |n: usize, filler: usize| OneDevice {
            device_id: format!("D{n}").into(),
            keys: Some(json!({
                "user_id": "@u:x", "device_id": format!("D{n}"), "algorithms": ["a".repeat(filler)],
                "keys": {}, "signatures": {},
            })),
            device_display_name: None,
        };
        let of = |count: usize| {
            let devices = (0..count).map(|n| device(n, 200)).collect();
            List::of(user_id!("@u:x"), devices, None, None)
        };
        let one = of(1).unwrap().devices[&*OwnedDeviceId::from("D0")]
            .keys
            .len();
        let fits = MAX_BYTES / (one + 4);
        assert_eq!(of(fits).unwrap().devices.len(), fits);
        assert!(MAX_BYTES / one < MAX_DEVICES);
        assert!(of(MAX_BYTES / one + 1).is_err());
    }
}
