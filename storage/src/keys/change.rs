//! What clients do with their keys: each a single write set, with what everybody is told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rhizome_protocol::device_keys::KeyUsage;
use ruma::OwnedDeviceId;

use crate::{
    CommitError, CrossSigningKeys, DecidedOn, DeviceKeys, DeviceList, Fact, KeySignature,
    KeyUpload, OneTimeKey, OneTimeKeys, Store, UserNo, UserSigned, WriteSet,
};

/// What a device of ours uploads.
#[derive(Debug, Clone)]
pub struct DeviceUpload {
    /// Whose device.
    pub user: UserNo,
    /// Which.
    pub device: OwnedDeviceId,
    /// What it had signed of itself when this was decided.
    pub decided_on: DecidedOn,
    /// What it has signed of itself, if that is new.
    pub keys: Option<Arc<str>>,
    /// Whether these are another identity, with which nothing that it had uploaded can be used any more.
    pub anew: bool,
    /// One-time keys, in the order in which they are to be given out.
    pub one_time: Vec<OneTimeKey>,
    /// Fallback keys.
    pub fallback: Vec<OneTimeKey>,
}

/// Cross-signing keys that a user of ours uploads.
#[derive(Debug, Clone)]
pub struct CrossSigningChange {
    /// Whose.
    pub user: UserNo,
    /// Those that are new, or (`None`) gone.
    pub keys: BTreeMap<KeyUsage, Option<Arc<str>>>,
    /// All that there was when this was decided.
    pub expect: BTreeMap<KeyUsage, Arc<str>>,
    /// The public keys that are replaced.
    pub replaced: Vec<String>,
}

impl Store {
    /// Stores what a device uploads.
    ///
    /// # Errors
    /// [`CommitError::AccountMoved`] if it isn't there any more, [`CommitError::KeysMoved`] if it has signed something
    /// else of itself by now than what this was decided on, [`CommitError::KeyTaken`] if it has another
    /// one-time key under the name of one of these.
    pub async fn upload_keys(&self, upload: DeviceUpload) -> Result<(), CommitError> {
        let (user, device) = (upload.user, upload.device);
        let mut facts: Vec<Fact> = Vec::new();
        if let Some(keys) = upload.keys.clone() {
            let set = DeviceKeys::Set {
                user,
                device: device.clone(),
                keys,
                display_name: None,
                expect_device: true,
            };
            let list = DeviceList {
                user,
                device: Some(device.clone()),
            };
            facts.extend([set.into(), list.into()]);
        }
        let is_empty = upload.one_time.is_empty() && upload.fallback.is_empty();
        if is_empty && facts.is_empty() {
            return Ok(());
        }
        let keys = KeyUpload {
            user,
            device,
            expect_device: true,
            decided_on: upload.decided_on,
            keys: upload.keys,
            anew: upload.anew,
            one_time: upload.one_time,
            fallback: upload.fallback,
        };
        facts.push(OneTimeKeys::Upload(keys).into());
        self.commit(WriteSet::from(facts)).await.map(drop)
    }

    /// Stores cross-signing keys.
    ///
    /// # Errors
    /// [`CommitError::AccountMoved`] if the user has others by now than those on which this was decided, or their account
    /// has ended.
    pub async fn set_cross_signing_keys(
        &self,
        change: CrossSigningChange,
    ) -> Result<(), CommitError> {
        let user = change.user;
        let keys = CrossSigningKeys {
            user,
            keys: change.keys.into_iter().collect(),
            expect: Some(change.expect),
            replaced: change.replaced,
        };
        let device = None;
        let facts: Vec<Fact> = vec![keys.into(), DeviceList { user, device }.into()];
        self.commit(WriteSet::from(facts)).await.map(drop)
    }

    /// Stores signatures, all made by `signer`. Of those of their own keys everybody is told, of others they alone.
    pub async fn add_key_signatures(
        &self,
        signer: UserNo,
        signatures: Vec<KeySignature>,
    ) -> Result<(), CommitError> {
        if signatures.is_empty() {
            return Ok(());
        }
        // What is signed of the signer's own, everybody is told.
        let own = signatures.iter().filter(|one| one.target_user == signer);
        let own: BTreeSet<Option<OwnedDeviceId>> = own
            .map(|one| one.is_device.then(|| one.target_id.as_str().into()))
            .collect();
        let lists = own.into_iter().map(|device| DeviceList {
            user: signer,
            device,
        });
        let mut facts: Vec<Fact> = lists.map(Fact::from).collect();
        let others: BTreeSet<UserNo> = signatures.iter().map(|one| one.target_user).collect();
        let others = others.into_iter().filter(|user| *user != signer);
        facts.extend(others.map(|user| UserSigned { signer, user }.into()));
        facts.extend(signatures.into_iter().map(Fact::from));
        self.commit(WriteSet::from(facts)).await.map(drop)
    }
}
