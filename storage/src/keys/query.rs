//! Keys as those see them who ask for them: clients of this server, and other servers.

use std::collections::BTreeMap;

use rhizome_protocol::device_keys::{KeyUsage, shown};
use ruma::{OwnedDeviceId, OwnedUserId};
use serde_json::value::RawValue;

use crate::{Error, Result, Store, StoredSignature, UserNo};

/// The keys of a user that somebody may see, as JSON.
#[derive(Debug, Clone, Default)]
pub struct KeysOf {
    /// Of the devices that were asked for and have keys.
    pub devices: BTreeMap<OwnedDeviceId, Box<RawValue>>,
    /// The user's own. The user-signing key is for its user alone.
    pub cross_signing: BTreeMap<KeyUsage, Box<RawValue>>,
}

/// The signatures that were added to keys, by whose key it is and which.
#[derive(Default)]
struct Added {
    by_target: BTreeMap<(UserNo, String), Vec<StoredSignature>>,
    signers: BTreeMap<UserNo, OwnedUserId>,
}

impl Store {
    /// The keys of these users, with those of the named devices, or of all where none is named. `viewer` is who
    /// asks, of a user here; `None` is another server. With `names`, devices say what they are called.
    ///
    /// Of a user of another server this is what is remembered of them.
    pub async fn query_keys(
        &self,
        asked: &BTreeMap<UserNo, Vec<OwnedDeviceId>>,
        viewer: Option<UserNo>,
        names: bool,
    ) -> Result<BTreeMap<UserNo, KeysOf>> {
        let users: Vec<UserNo> = asked.keys().copied().collect();
        let (mut whole, mut named) = (Vec::new(), Vec::new());
        for (user, devices) in asked {
            if devices.is_empty() {
                whole.push(*user);
            }
            named.extend(devices.iter().map(|device| (*user, device.clone())));
        }
        let mut devices = self.device_keys(&whole).await?;
        devices.extend(self.device_keys_of(&named).await?);
        let cross_signing = self.cross_signing_keys(&users).await?;
        // Nobody signs anything without such keys, neither their own devices nor others.
        let signed: Vec<UserNo> = cross_signing.keys().copied().collect();
        let added = self.added(&signed, viewer).await?;
        let mut found: BTreeMap<UserNo, KeysOf> = BTreeMap::new();
        for one in devices {
            let name = one.display_name.as_deref().filter(|_| names);
            let json = added.show(&one.keys, one.user, one.device.as_str(), name)?;
            let keys = found.entry(one.user).or_default();
            keys.devices.insert(one.device, json);
        }
        for (user, keys) in cross_signing {
            for (usage, key) in keys {
                if usage == KeyUsage::UserSigning && viewer != Some(user) {
                    continue;
                }
                let public = public_of(&key).unwrap_or_default();
                let json = added.show(&key, user, &public, None)?;
                let keys = found.entry(user).or_default();
                keys.cross_signing.insert(usage, json);
            }
        }
        Ok(found)
    }

    /// Master keys that aren't stored here, with the signatures that `viewer` has made of them.
    pub async fn with_signatures(
        &self,
        masters: BTreeMap<UserNo, Box<RawValue>>,
        viewer: UserNo,
    ) -> Result<BTreeMap<UserNo, Box<RawValue>>> {
        let users: Vec<UserNo> = masters.keys().copied().collect();
        let added = self.added(&users, Some(viewer)).await?;
        let shown = masters.into_iter().map(|(user, key)| {
            let public = public_of(key.get()).unwrap_or_default();
            Ok((user, added.show(key.get(), user, &public, None)?))
        });
        shown.collect()
    }

    /// Whether one of the user's cross-signing keys has this name. A device must not have it too.
    pub async fn is_cross_signing_key(&self, user: UserNo, name: &str) -> Result<bool> {
        let keys = self.cross_signing_keys(&[user]).await?;
        let mut keys = keys.values().flat_map(BTreeMap::values);
        Ok(keys.any(|key| public_of(key).as_deref() == Some(name)))
    }

    async fn added(&self, users: &[UserNo], viewer: Option<UserNo>) -> Result<Added> {
        let mut added = Added::default();
        for one in self.key_signatures(users, viewer).await? {
            added
                .signers
                .insert(one.signer, self.user(one.signer).await?);
            let target = (one.target_user, one.target_id.clone());
            added.by_target.entry(target).or_default().push(one);
        }
        Ok(added)
    }
}

impl Added {
    fn show(
        &self,
        kept: &str,
        user: UserNo,
        id: &str,
        name: Option<&str>,
    ) -> Result<Box<RawValue>> {
        let target = (!self.by_target.is_empty()).then(|| (user, id.to_owned()));
        let added = target.and_then(|target| self.by_target.get(&target));
        let added = added.into_iter().flatten().filter_map(|one| {
            let signer = self.signers.get(&one.signer)?;
            Some((&**signer, one.signer_key.as_str(), one.signature.as_str()))
        });
        shown(kept, added, name)
            .and_then(|json| RawValue::from_string(json).ok())
            .ok_or_else(|| Error::broken("a stored key isn't JSON"))
    }
}

/// The public key by which a cross-signing key is known.
fn public_of(key: &str) -> Option<String> {
    let key: serde_json::Value = serde_json::from_str(key).ok()?;
    let name = key.get("keys")?.as_object()?.keys().next()?;
    Some(name.strip_prefix("ed25519:")?.to_owned())
}
