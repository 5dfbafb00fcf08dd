//! One-time and fallback keys come from the device whose they are.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ruma::OwnedDeviceId;

use super::{Named, OneTimeKey};
use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::engine::trouble::Trouble;
use crate::facts::keys::device::{self, Device};
use crate::{CommitError, Result, UserNo};

/// Keys that a device uploads. Those that are there already, the same, say nothing new; another key under the name
/// of one that is there is refused ([`CommitError::KeyTaken`]).
#[derive(Debug, Clone)]
pub struct KeyUpload {
    /// Whose device.
    pub user: UserNo,
    /// Which.
    pub device: OwnedDeviceId,
    /// Refused ([`CommitError::AccountMoved`]) if it isn't there any more.
    pub expect_device: bool,
    /// Refused ([`CommitError::KeysMoved`]) if the device has signed something else of itself by now.
    pub decided_on: DecidedOn,
    /// What the device has signed of itself, if that is written beside.
    pub keys: Option<Arc<str>>,
    /// All that it had before and isn't among these goes: it has another identity, and nobody would believe those.
    /// What is among these stays as it is, given out or used as it was, for this may be a repetition.
    pub anew: bool,
    /// To be given out once each, in this order.
    pub one_time: Vec<OneTimeKey>,
    /// To be given out when there are no others, one of each algorithm.
    pub fallback: Vec<OneTimeKey>,
}

/// What a device of ours has signed of itself when it is decided what becomes of an upload: whose one-time keys are
/// believed, and whether it is another identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecidedOn {
    /// It doesn't matter.
    Anything,
    /// This, or nothing.
    Keys(Option<Arc<str>>),
}

/// How many one-time keys are kept for a device. Clients upload 50 or 100.
const MOST_ONE_TIME: usize = 1_000;

/// How many fallback keys, one for each algorithm.
const MOST_FALLBACK: usize = 16;

/// Algorithm and id.
type Name = (String, String);

#[derive(Debug, Clone)]
struct Known {
    /// Only of names that are uploaded: of others nobody asks.
    key: Option<Arc<str>>,
    given_out: bool,
}

/// What a device has.
#[derive(Debug, Default)]
struct Held {
    one_time: HashMap<Name, Known>,
    fallback: HashMap<String, OneTimeKey>,
    last: i64,
}

/// What uploads are decided on, and what they come to.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    held: HashMap<(UserNo, OwnedDeviceId), Held>,
    /// Devices that are there, with what they have signed of themselves.
    there: HashMap<(UserNo, OwnedDeviceId), Option<Arc<str>>>,
    taken: HashSet<(UserNo, OwnedDeviceId)>,
    /// Devices with another identity.
    anew: HashSet<(UserNo, OwnedDeviceId)>,
    /// Keys that were given out, and needn't be remembered any more, or are another identity's.
    forgotten: BTreeSet<(UserNo, OwnedDeviceId, Name)>,
    forgotten_fallbacks: BTreeSet<(UserNo, OwnedDeviceId, String)>,
    added: BTreeMap<(UserNo, OwnedDeviceId, Name), (i64, Arc<str>)>,
    fallbacks: BTreeMap<(UserNo, OwnedDeviceId, String), OneTimeKey>,
}

rows! {
    struct Algorithm<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        algorithm: &'a str,
    }
}

rows! {
    struct Added<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        algorithm: &'a str,
        key_id: &'a str,
        seq: i64,
        key: &'a str,
    }
}

rows! {
    struct NewFallback<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        algorithm: &'a str,
        key_id: &'a str,
        key: &'a str,
    }
}

/// What the devices have, without the text of one-time keys: a device may have many. Then those whose names are
/// uploaded, with it.
const LOOK_UP: &str = "\
    SELECT 'key' AS what, k.user_no, k.device_id, k.algorithm, k.key_id, NULL AS key, k.seq, k.claimed \
    FROM ROWS($1) AS x JOIN one_time_key k ON k.user_no = x.user_no AND k.device_id = x.device_id \
    UNION ALL SELECT 'fallback', f.user_no, f.device_id, f.algorithm, f.key_id, f.key, 0, 0 \
    FROM ROWS($1) AS x JOIN fallback_key f ON f.user_no = x.user_no AND f.device_id = x.device_id \
    UNION ALL SELECT 'text', k.user_no, k.device_id, k.algorithm, k.key_id, k.key, k.seq, k.claimed \
    FROM ROWS($2) AS x JOIN one_time_key k ON k.user_no = x.user_no AND k.device_id = x.device_id \
    AND k.algorithm = x.algorithm AND k.key_id = x.key_id";

impl Known {
    fn is(&self, key: &OneTimeKey) -> bool {
        self.key.as_ref() == Some(&key.key)
    }
}

impl KeyUpload {
    fn name<'a>(&'a self, key: &'a OneTimeKey) -> Named<'a> {
        Named {
            user_no: self.user,
            device_id: &self.device,
            algorithm: &key.algorithm,
            key_id: &key.key_id,
        }
    }
}

impl Uploads {
    pub(super) async fn look_up(
        &mut self,
        tx: &mut Tx,
        uploads: &[&KeyUpload],
    ) -> Result<(), Trouble> {
        if uploads.is_empty() {
            return Ok(());
        }
        let of = |upload: &&'_ KeyUpload| (upload.user, upload.device.clone());
        let devices: BTreeSet<_> = uploads.iter().map(of).collect();
        let asked: BTreeSet<Device<'_>> = devices.iter().map(Device::of).collect();
        let expecting = uploads.iter().filter(|upload| upload.expect_device);
        let expected = expecting.map(|upload| Device {
            user_no: upload.user,
            device_id: &upload.device,
        });
        self.there = device::with_keys(tx, expected.collect()).await?;
        let asked: Vec<_> = asked.into_iter().collect();
        let names: BTreeSet<_> = (uploads.iter())
            .flat_map(|upload| upload.one_time.iter().map(|key| upload.name(key)))
            .collect();
        let names: Vec<_> = names.into_iter().collect();
        let query = tx.sql(LOOK_UP).rows(&asked).rows(&names);
        for row in tx.rows(query).await? {
            let held = (row.get("user_no")?, row.get("device_id")?);
            let held = self.held.entry(held).or_default();
            let (algorithm, key_id) = (row.get("algorithm")?, row.get("key_id")?);
            let key: Option<Arc<str>> = row.get("key")?;
            let what: String = row.get("what")?;
            if what == "fallback" {
                let key = key.unwrap_or_default();
                let key = OneTimeKey {
                    algorithm,
                    key_id,
                    key,
                };
                held.fallback.insert(key.algorithm.clone(), key);
                continue;
            }
            held.last = held.last.max(row.get("seq")?);
            let known = Known {
                key,
                given_out: row.get::<i64>("claimed")? != 0,
            };
            if what == "text" {
                held.one_time.insert((algorithm, key_id), known);
            } else {
                held.one_time.entry((algorithm, key_id)).or_insert(known);
            }
        }
        Ok(())
    }

    /// Whether it has another identity since this group.
    pub(super) fn is_anew(&self, device: &(UserNo, OwnedDeviceId)) -> bool {
        self.anew.contains(device)
    }

    /// Whether the group has another of the device before it, so that what was looked up may be so no more.
    pub(super) fn has_taken(&self, upload: &KeyUpload) -> bool {
        let is_decided = upload.decided_on != DecidedOn::Anything;
        is_decided && (self.taken).contains(&(upload.user, upload.device.clone()))
    }

    /// Why it can't be taken, if it can't.
    pub(super) fn refuse(&self, upload: &KeyUpload, retried: bool) -> Option<CommitError> {
        let device = (upload.user, upload.device.clone());
        let there = self.there.get(&device);
        if upload.expect_device && there.is_none() {
            return Some(CommitError::AccountMoved(upload.user));
        }
        if let DecidedOn::Keys(before) = &upload.decided_on {
            let now = there.and_then(Option::as_ref);
            // It may be this that has been written.
            let is_done = retried && now == upload.keys.as_ref();
            if now != before.as_ref() && !is_done {
                return Some(CommitError::KeysMoved(upload.user));
            }
        }
        let held = self.held.get(&device).filter(|_| !upload.anew)?;
        let known = |key: &OneTimeKey| {
            let name = (key.algorithm.clone(), key.key_id.clone());
            held.one_time.get(&name).filter(|known| !known.given_out)
        };
        let taken =
            (upload.one_time.iter()).find(|key| known(key).is_some_and(|known| !known.is(key)));
        if let Some(taken) = taken {
            return Some(CommitError::KeyTaken {
                user: upload.user,
                key: format!("{}:{}", taken.algorithm, taken.key_id),
            });
        }
        let there = held.one_time.values().filter(|known| !known.given_out);
        let new = upload.one_time.iter().filter(|key| known(key).is_none());
        let fallbacks =
            (upload.fallback.iter()).filter(|key| !held.fallback.contains_key(&key.algorithm));
        let too_many = there.count() + new.count() > MOST_ONE_TIME
            || held.fallback.len() + fallbacks.count() > MOST_FALLBACK;
        too_many.then_some(CommitError::TooManyKeys(upload.user))
    }

    /// Another identity: what isn't among its keys goes. Whether anything does.
    fn begin_anew(&mut self, upload: &KeyUpload) -> bool {
        let device = (upload.user, upload.device.clone());
        let held = self.held.entry(device.clone()).or_default();
        let uploaded: HashMap<_, _> = (upload.one_time.iter())
            .map(|key| ((key.algorithm.as_str(), key.key_id.as_str()), key))
            .collect();
        let mut is_less = false;
        held.one_time.retain(|(algorithm, key_id), known| {
            let same = uploaded.get(&(algorithm.as_str(), key_id.as_str()));
            let stays = same.is_some_and(|key| known.is(key));
            if !stays {
                let name = (algorithm.clone(), key_id.clone());
                let gone = (upload.user, upload.device.clone(), name);
                self.added.remove(&gone);
                self.forgotten.insert(gone);
                is_less = true;
            }
            stays
        });
        held.fallback.retain(|algorithm, known| {
            let stays = upload.fallback.contains(known);
            if !stays {
                let gone = (upload.user, upload.device.clone(), algorithm.clone());
                self.fallbacks.remove(&gone);
                self.forgotten_fallbacks.insert(gone);
                is_less = true;
            }
            stays
        });
        self.anew.insert(device);
        is_less
    }

    /// Takes what is new of it. Whether anything is.
    pub(super) fn take(&mut self, upload: &KeyUpload) -> bool {
        let (user, device) = (upload.user, &upload.device);
        self.taken.insert((user, device.clone()));
        let is_less = upload.anew && self.begin_anew(upload);
        let held = self.held.entry((user, device.clone())).or_default();
        let mut named = BTreeSet::new();
        let mut is_new = false;
        for key in &upload.one_time {
            let name = (key.algorithm.clone(), key.key_id.clone());
            named.insert(name.clone());
            // The same may have been given out before its device heard that it is here.
            if held.one_time.get(&name).is_some_and(|known| known.is(key)) {
                self.forgotten.remove(&(user, device.clone(), name));
                continue;
            }
            is_new = true;
            held.last += 1;
            let known = Known {
                key: Some(key.key.clone()),
                given_out: false,
            };
            held.one_time.insert(name.clone(), known);
            let row = (held.last, key.key.clone());
            self.added.insert((user, device.clone(), name), row);
        }
        if is_new {
            let old = (held.one_time.iter())
                .filter(|(name, known)| known.given_out && !named.contains(*name))
                .map(|(name, _)| (user, device.clone(), name.clone()));
            self.forgotten.extend(old);
        }
        let mut changed = is_new || is_less;
        for key in &upload.fallback {
            if held.fallback.get(&key.algorithm) != Some(key) {
                held.fallback.insert(key.algorithm.clone(), key.clone());
                let which = (user, device.clone(), key.algorithm.clone());
                self.fallbacks.insert(which, key.clone());
                changed = true;
            }
        }
        changed
    }

    pub(super) fn write(&self, statements: &mut Statements) -> Result<()> {
        let forgotten: Vec<_> = (self.forgotten.iter())
            .map(|(user, device, (algorithm, key_id))| Named {
                user_no: *user,
                device_id: device,
                algorithm,
                key_id,
            })
            .collect();
        statements.before(
            "DELETE FROM one_time_key WHERE (user_no, device_id, algorithm, key_id) IN \
             (SELECT user_no, device_id, algorithm, key_id FROM ROWS($1) AS x)",
            &forgotten,
        )?;
        let forgotten: Vec<_> = (self.forgotten_fallbacks.iter())
            .map(|(user_no, device_id, algorithm)| Algorithm {
                user_no: *user_no,
                device_id,
                algorithm,
            })
            .collect();
        statements.before(
            "DELETE FROM fallback_key WHERE (user_no, device_id, algorithm) IN \
             (SELECT user_no, device_id, algorithm FROM ROWS($1) AS x)",
            &forgotten,
        )?;
        let added: Vec<_> = (self.added.iter())
            .map(|((user, device, (algorithm, key_id)), (seq, key))| Added {
                user_no: *user,
                device_id: device,
                algorithm,
                key_id,
                seq: *seq,
                key,
            })
            .collect();
        statements.before(
            "INSERT INTO one_time_key (user_no, device_id, algorithm, key_id, seq, claimed, key) \
             SELECT user_no, device_id, algorithm, key_id, seq, 0, key FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (user_no, device_id, algorithm, key_id) \
             DO UPDATE SET seq = excluded.seq, claimed = 0, key = excluded.key",
            &added,
        )?;
        let fallbacks: Vec<_> = (self.fallbacks.iter())
            .map(|((user, device, algorithm), key)| NewFallback {
                user_no: *user,
                device_id: device,
                algorithm,
                key_id: &key.key_id,
                key: &key.key,
            })
            .collect();
        statements.before(
            "INSERT INTO fallback_key (user_no, device_id, algorithm, key_id, used, key) \
             SELECT user_no, device_id, algorithm, key_id, 0, key FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (user_no, device_id, algorithm) \
             DO UPDATE SET key_id = excluded.key_id, used = 0, key = excluded.key",
            &fallbacks,
        )
    }
}
