//! The keys that this server signed with before, as others are told of them, and until when each counts.
//!
//! That time must be later than the last signature that was made with the key: an event dated after it is refused for good
//! in rooms of version 5 and later, also by servers that come years later, and their rooms would be others than ours. But a
//! process signs with the key that it was started with for as long as it runs, and `rhizome keys rotate` can't know when it
//! is restarted. So the time doesn't count from the rotation, but from the first start of a process that has the newer
//! key. Whoever starts first writes that down in the database that all processes share, so that all tell the same. From
//! then on there is the overlap, which `rotate` was given, to restart the others.
//!
//! A process that goes on with the old key can't know that from its file. So what is written down says too until when the
//! key counts, and each process looks for what is said of its own (`key_watch.rs`): it complains, and stops before it would
//! sign what nobody takes.
//!
//! An overlap that is too long costs little. Who has stolen the key can date events back anyway; for so long their requests
//! count too, which is why it can be made nothing where all processes are stopped.

use anyhow::{Context as _, bail};
use rhizome_federation::keys::public_key;
use rhizome_federation::{MAX_OLD_KEYS, OldVerifyKey};
use rhizome_protocol::hash;
use rhizome_storage::Store;

use super::signing_key::{KeyFile, OldKey};
use crate::config::{self, Config};

/// All that others are told of: those in the file, and those in the settings. This is a start with the newer key.
///
/// # Errors
/// The settings contradict the file, or there are too many.
pub(super) async fn counted(
    store: &Store,
    file: &KeyFile,
    config: &Config,
) -> anyhow::Result<Vec<OldVerifyKey>> {
    let mut keys = Vec::new();
    for key in file.old() {
        let now = store.clock().now_ms().to_string();
        let started = store.claim_setting(&setting(key), &now).await?;
        let expired_ts = until(key, time(&started)?);
        let name = format!("{}{}", replaced(&key.key_id), key.replaced_ts);
        store.claim_setting(&name, &expired_ts.to_string()).await?;
        keys.push(OldVerifyKey {
            key_id: key.key_id.clone(),
            public: key.public.clone(),
            expired_ts,
        });
    }
    let keys = joined(keys, &config.federation.old_verify_keys)?;
    let current = file.current().key_id();
    if keys.iter().any(|key| key.key_id == current) {
        bail!(
            "federation.old_verify_keys has {current}, which is the key in use; take it out there, or name the right file \
             with server.signing_key_path"
        );
    }
    Ok(keys)
}

/// Until when a key of the file counts, ms. `None`: no process has been started with a newer one yet.
///
/// # Errors
/// The database's.
pub(crate) async fn counts_until(store: &Store, key: &OldKey) -> anyhow::Result<Option<i64>> {
    match store.setting(&setting(key)).await? {
        Some(started) => Ok(Some(until(key, time(&started)?))),
        None => Ok(None),
    }
}

/// The setting that says when a process was first started for which the key is one of before. A key that comes back into use
/// can be replaced again.
fn setting(key: &OldKey) -> String {
    format!("old_key:{}:{}", key.key_id, key.replaced_ts)
}

/// How the settings begin that say until when a key counts in whose place another is in use. What follows is when it was
/// replaced.
pub(super) fn replaced(key_id: &str) -> String {
    format!("replaced_key:{key_id}:")
}

pub(super) fn time(recorded: &str) -> anyhow::Result<i64> {
    let time: Result<i64, _> = recorded.parse();
    time.context("the database has no time where it should say since when a key is out of use")
}

fn until(key: &OldKey, started: i64) -> i64 {
    let overlap = key.expired_ts.saturating_sub(key.replaced_ts).max(0);
    key.expired_ts.max(started.saturating_add(overlap))
}

/// With what the operator knows of besides.
fn joined(
    mut keys: Vec<OldVerifyKey>,
    settings: &[config::OldVerifyKey],
) -> anyhow::Result<Vec<OldVerifyKey>> {
    for set in settings {
        let known = keys.iter_mut().find(|key| key.key_id == set.key_id);
        let Some(known) = known else {
            // What isn't one, the check of the configuration has said.
            let public = public_key(&set.key).map(|public| hash::to_base64(&public));
            keys.push(OldVerifyKey {
                key_id: set.key_id.clone(),
                public: public.unwrap_or_default(),
                expired_ts: set.expired_ts,
            });
            continue;
        };
        if public_key(&known.public) != public_key(&set.key) {
            bail!(
                "federation.old_verify_keys says of {} that it is another key than the signing key's file says; \
                 take it out of the configuration if it has never signed anything",
                set.key_id
            );
        }
        known.expired_ts = known.expired_ts.max(set.expired_ts);
    }
    if keys.len() > MAX_OLD_KEYS {
        bail!(
            "the signing key's file and federation.old_verify_keys have {} old keys, and other servers take {MAX_OLD_KEYS}; \
             forget some with `rhizome keys forget KEY_ID`",
            keys.len()
        );
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rhizome_protocol::sign::KeyPair;
    use rhizome_storage::testing::each_database;

    use super::*;
    use crate::config::LAST_TIME;

    fn key(version: &str, seed: u8) -> KeyPair {
        KeyPair::from_seed(version, &[seed; 32]).unwrap()
    }

    #[tokio::test]
    async fn a_key_counts_from_the_first_start_with_a_newer_one() {
        each_database(async |store: Store| {
            let hour = Duration::from_hours(1);
            let now = store.clock().now_ms();
            let began = now - 50 * 3_600_000;
            let file = KeyFile::of(key("a", 1)).rotated(key("b", 2), began, hour);
            let old = &file.old()[0];
            assert_eq!(counts_until(&store, old).await.unwrap(), None);
            // Nobody had been restarted for two days: the hour begins now.
            let config = Config::default();
            let told = counted(&store, &file, &config).await.unwrap();
            assert_eq!(told[0].key_id, "ed25519:a");
            assert_eq!(told[0].public, key("a", 1).public_base64());
            assert!(told[0].expired_ts >= now + 3_600_000);
            let until = counts_until(&store, old).await.unwrap();
            assert_eq!(until, Some(told[0].expired_ts));
            // Others, and later starts, tell the same, also after another rotation.
            assert_eq!(counted(&store, &file, &config).await.unwrap(), told);
            let file = file.rotated(key("c", 3), now, Duration::ZERO);
            let both = counted(&store, &file, &config).await.unwrap();
            assert_eq!(both[0], told[0]);
            assert!((now..now + 3_600_000).contains(&both[1].expired_ts));
            // The key comes back into use, and is replaced once more.
            let again = KeyFile::of(key("a", 1)).rotated(key("d", 4), now + 1, hour);
            let again = counts_until(&store, &again.old()[0]).await.unwrap();
            assert_eq!(again, None);
        })
        .await;
    }

    #[tokio::test]
    async fn settings_add_to_the_file_and_must_not_contradict_it() {
        each_database(async |store: Store| {
            let file = KeyFile::of(key("a", 1)).rotated(key("b", 2), 1_000, Duration::ZERO);
            let told = async |version: &str, seed: u8, expired_ts: i64| {
                let mut config = Config::default();
                config.federation.old_verify_keys = vec![config::OldVerifyKey {
                    key_id: format!("ed25519:{version}"),
                    key: format!("{}=", key(version, seed).public_base64()),
                    expired_ts,
                }];
                let told = counted(&store, &file, &config).await;
                told.map_err(|error| error.to_string())
            };
            let both = told("synapse", 9, 500).await.unwrap();
            assert_eq!(both.len(), 2);
            assert_eq!(
                (both[1].key_id.as_str(), both[1].expired_ts),
                ("ed25519:synapse", 500)
            );
            // The later time counts of a key that is named twice.
            let later = told("a", 1, LAST_TIME).await.unwrap();
            assert_eq!((later.len(), later[0].expired_ts), (1, LAST_TIME));
            let earlier = told("a", 1, 1).await.unwrap();
            assert!(earlier[0].expired_ts > 1_000);
            let other = told("a", 9, 500).await.unwrap_err();
            assert!(other.contains("another key"), "{other}");
            let current = told("b", 2, 500).await.unwrap_err();
            assert!(current.contains("the key in use"), "{current}");
        })
        .await;
    }

    #[test]
    fn there_are_not_more_than_others_take() {
        let set = |index: usize| config::OldVerifyKey {
            key_id: format!("ed25519:k{index}"),
            key: key("k", 1).public_base64(),
            expired_ts: 1,
        };
        let most: Vec<_> = (0..MAX_OLD_KEYS).map(set).collect();
        assert_eq!(joined(Vec::new(), &most).unwrap().len(), MAX_OLD_KEYS);
        let more: Vec<_> = (0..=MAX_OLD_KEYS).map(set).collect();
        let error = joined(Vec::new(), &more).unwrap_err().to_string();
        assert!(error.contains("rhizome keys forget"), "{error}");
    }
}
