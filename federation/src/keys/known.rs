//! What we know of one server's keys, and when a key of it counts.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use rhizome_protocol::{receive::KeyLookup, server_keys::ServerKeys, sign::KeyPair};
use rhizome_storage::StoredKey;

use crate::config::{ConfigError, MAX_OLD_KEYS, OldVerifyKey};

/// A key isn't trusted for longer than this after it was fetched, whatever the server says
/// (<https://spec.matrix.org/v1.19/server-server-api/#publishing-keys>).
const MAX_VALIDITY: i64 = 7 * 24 * 60 * 60 * 1000;
/// Keys of one server that are remembered.
const MAX_KEYS: usize = 100;

/// The keys of one server.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct KnownKeys {
    keys: BTreeMap<String, Key>,
    /// When the server was last asked with success, milliseconds since 1970.
    pub(crate) fetched: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    public: [u8; 32],
    until: Until,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// In use when last seen; to be asked about again after this time (ms).
    Valid(i64),
    /// Out of use since then (ms).
    Expired(i64),
}

impl KnownKeys {
    /// Whether the key counts for something signed at `valid_at` (ms).
    pub(crate) fn lookup(&self, key_id: &str, valid_at: i64) -> KeyLookup {
        let Some(Key { public, until }) = self.keys.get(key_id) else {
            return KeyLookup::Unknown;
        };
        match *until {
            Until::Valid(until) | Until::Expired(until) if valid_at <= until => {
                KeyLookup::Found(*public)
            }
            // It may have been renewed since.
            Until::Valid(_) => KeyLookup::Unknown,
            Until::Expired(_) => KeyLookup::Expired,
        }
    }

    /// Whether asking again can't add anything.
    pub(crate) fn satisfies(&self, keys: &BTreeSet<(&str, i64)>) -> bool {
        keys.iter()
            .all(|(key_id, at)| self.lookup(key_id, *at) != KeyLookup::Unknown)
    }

    /// Whether some key is valid now.
    pub(crate) fn has_current(&self, now: i64) -> bool {
        self.keys
            .values()
            .any(|key| matches!(key.until, Until::Valid(until) if now <= until))
    }

    /// Until when the keys in use are known to be, ms; `None`: none is in use.
    pub(crate) fn ends(&self) -> Option<i64> {
        self.in_use().map(|(_, until)| until).max()
    }

    /// The ids of the keys that the server had in use when it was last asked: those that it has dropped without a word
    /// have ended earlier.
    pub(crate) fn newest(&self) -> impl Iterator<Item = &str> {
        let ends = self.ends();
        let newest = self.in_use().filter(move |(_, until)| Some(*until) == ends);
        newest.map(|(id, _)| id)
    }

    fn in_use(&self) -> impl Iterator<Item = (&str, i64)> {
        self.keys.iter().filter_map(|(id, key)| match key.until {
            Until::Valid(until) => Some((id.as_str(), until)),
            Until::Expired(_) => None,
        })
    }

    /// As the database has it.
    pub(crate) fn stored(rows: &[StoredKey], fetched: i64) -> Self {
        let keys = rows.iter().filter_map(|row| {
            let until = match (row.valid_until, row.expired) {
                (_, Some(expired)) => Until::Expired(expired),
                (Some(valid), None) => Until::Valid(valid),
                (None, None) => return None,
            };
            Some((
                row.key_id.clone(),
                Key {
                    public: public_key(&row.public)?,
                    until,
                },
            ))
        });
        Self {
            keys: keys.collect(),
            fetched,
        }
    }

    /// For the database.
    pub(crate) fn rows(&self) -> Vec<StoredKey> {
        let row = |(key_id, key): (&String, &Key)| StoredKey {
            key_id: key_id.clone(),
            public: STANDARD_NO_PAD.encode(key.public),
            valid_until: match key.until {
                Until::Valid(until) => Some(until),
                Until::Expired(_) => None,
            },
            expired: match key.until {
                Until::Valid(_) => None,
                Until::Expired(at) => Some(at),
            },
        };
        self.keys.iter().map(row).collect()
    }

    /// Whether what somebody says of the server's keys, who isn't trusted, fits what we know. Anybody can make an
    /// answer in the name of a server of which we know nothing; one of which we know keys has signed it with one
    /// that is in use (what an answer has as such has signed it), and none of them is said to be another.
    pub(crate) fn agrees_with(&self, answer: &ServerKeys) -> bool {
        if self.keys.is_empty() {
            return true;
        }
        let is_in_use = |(id, public): (&String, &[u8; 32])| match self.keys.get(id) {
            Some(known) => known.public == *public && matches!(known.until, Until::Valid(_)),
            None => true,
        };
        let is_same = |(id, (public, _)): (&String, &([u8; 32], i64))| {
            let known = self.keys.get(id);
            known.is_none_or(|known| known.public == *public)
        };
        let mut current = answer.verify_keys.keys();
        current.any(|id| self.keys.contains_key(id))
            && answer.verify_keys.iter().all(is_in_use)
            && answer.old_verify_keys.iter().all(is_same)
    }

    /// With a newer answer of the server. Keys that it no longer names stay, valid as long as was said.
    pub(crate) fn joined_with(&self, answer: &ServerKeys, now: i64) -> Self {
        let mut joined = Self {
            keys: self.keys.clone(),
            fetched: now,
        };
        let until = answer.valid_until_ts.min(now.saturating_add(MAX_VALIDITY));
        let current = answer
            .verify_keys
            .iter()
            .map(|(id, key)| (id, *key, Until::Valid(until)));
        let old = answer
            .old_verify_keys
            .iter()
            .map(|(id, (key, at))| (id, *key, Until::Expired(*at)));
        // An older answer, passed on late by a notary, takes nothing back.
        let is_older = self.ends().is_some_and(|newest| until < newest);
        // Keys in use come last: they win over an old one with the same id.
        for (id, public, until) in old.chain(current) {
            let full = joined.keys.len() >= MAX_KEYS && !joined.keys.contains_key(id);
            if full || !crate::xmatrix::is_key_id(id) {
                continue;
            }
            let until = match (joined.keys.get(id), until) {
                (
                    Some(Key {
                        until: Until::Valid(known),
                        public: same,
                    }),
                    Until::Valid(new),
                ) if *same == public => Until::Valid(new.max(*known)),
                (
                    Some(Key {
                        until: Until::Expired(_),
                        ..
                    }),
                    Until::Valid(_),
                ) if is_older => continue,
                _ => until,
            };
            joined.keys.insert(id.clone(), Key { public, until });
        }
        joined
    }
}

/// Our own keys: the current one never expires for ourselves.
pub(crate) fn ours(key: &KeyPair, old: &[OldVerifyKey]) -> Result<KnownKeys, ConfigError> {
    if old.len() > MAX_OLD_KEYS {
        return Err(ConfigError::OldKey(format!(
            "there are more than {MAX_OLD_KEYS}, so other servers would take none of our keys"
        )));
    }
    let mut keys = BTreeMap::new();
    for old in old {
        if old.key_id == key.key_id() {
            return Err(ConfigError::OldKey(format!(
                "{} is the key in use",
                old.key_id
            )));
        }
        let public = public_key(&old.public).ok_or_else(|| {
            ConfigError::OldKey(format!("{} has no valid public key", old.key_id))
        })?;
        if !crate::xmatrix::is_key_id(&old.key_id) {
            return Err(ConfigError::OldKey(format!("{} is no key id", old.key_id)));
        }
        keys.insert(
            old.key_id.clone(),
            Key {
                public,
                until: Until::Expired(old.expired_ts),
            },
        );
    }
    let current = Key {
        public: key.public(),
        until: Until::Valid(i64::MAX),
    };
    keys.insert(key.key_id().to_owned(), current);
    Ok(KnownKeys { keys, fetched: 0 })
}

/// A public key from base64, padded or not.
pub(crate) fn public_key(text: &str) -> Option<[u8; 32]> {
    STANDARD_NO_PAD
        .decode(text.trim_end_matches('='))
        .ok()?
        .try_into()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60 * 1000;

    fn answer(valid_until_ts: i64, current: &[(&str, u8)], old: &[(&str, u8, i64)]) -> ServerKeys {
        ServerKeys {
            server_name: "a.example".try_into().unwrap(),
            valid_until_ts,
            verify_keys: current
                .iter()
                .map(|(id, k)| ((*id).to_owned(), [*k; 32]))
                .collect(),
            old_verify_keys: old
                .iter()
                .map(|(id, k, at)| ((*id).to_owned(), ([*k; 32], *at)))
                .collect(),
        }
    }

    #[test]
    fn validity_in_time() {
        let known = KnownKeys::default().joined_with(
            &answer(DAY, &[("ed25519:a", 1)], &[("ed25519:o", 2, 500)]),
            1000,
        );
        assert_eq!(known.lookup("ed25519:a", 0), KeyLookup::Found([1; 32]));
        assert_eq!(known.lookup("ed25519:a", DAY), KeyLookup::Found([1; 32]));
        assert_eq!(known.lookup("ed25519:a", DAY + 1), KeyLookup::Unknown);
        assert_eq!(known.lookup("ed25519:o", 500), KeyLookup::Found([2; 32]));
        assert_eq!(known.lookup("ed25519:o", 501), KeyLookup::Expired);
        assert_eq!(known.lookup("ed25519:x", 0), KeyLookup::Unknown);
    }

    #[test]
    fn validity_is_capped_at_seven_days() {
        let known =
            KnownKeys::default().joined_with(&answer(i64::MAX, &[("ed25519:a", 1)], &[]), 0);
        assert_eq!(
            known.lookup("ed25519:a", 7 * DAY),
            KeyLookup::Found([1; 32])
        );
        assert_eq!(known.lookup("ed25519:a", 7 * DAY + 1), KeyLookup::Unknown);
    }

    #[test]
    fn rotation_keeps_the_old_key_for_old_events() {
        let first = KnownKeys::default().joined_with(&answer(DAY, &[("ed25519:a", 1)], &[]), 0);
        let second = first.joined_with(
            &answer(2 * DAY, &[("ed25519:b", 2)], &[("ed25519:a", 1, 100)]),
            200,
        );
        assert_eq!(second.lookup("ed25519:a", 100), KeyLookup::Found([1; 32]));
        assert_eq!(second.lookup("ed25519:a", 101), KeyLookup::Expired);
        // One that vanished without a word stays valid as long as was said.
        let third = second.joined_with(&answer(3 * DAY, &[("ed25519:c", 3)], &[]), 300);
        assert_eq!(third.ends(), Some(3 * DAY));
        assert!(third.newest().eq(["ed25519:c"]));
        assert_eq!(KnownKeys::default().ends(), None);
        assert_eq!(
            third.lookup("ed25519:b", 2 * DAY),
            KeyLookup::Found([2; 32])
        );
        assert_eq!(third.lookup("ed25519:b", 2 * DAY + 1), KeyLookup::Unknown);
    }

    #[test]
    fn an_older_answer_takes_nothing_back_and_rows_come_back() {
        let known = KnownKeys::default()
            .joined_with(
                &answer(3 * DAY, &[("ed25519:a", 1)], &[("ed25519:o", 2, 5)]),
                0,
            )
            .joined_with(&answer(DAY, &[("ed25519:a", 1)], &[]), 9);
        assert_eq!(
            known.lookup("ed25519:a", 2 * DAY),
            KeyLookup::Found([1; 32])
        );
        assert_eq!(KnownKeys::stored(&known.rows(), 9), known);
        // Nor does a key come back into use that a newer one says is out of it.
        let late = known.joined_with(&answer(DAY, &[("ed25519:o", 2)], &[]), 10);
        assert_eq!(late.lookup("ed25519:o", 6), KeyLookup::Expired);
        let newer = known.joined_with(&answer(4 * DAY, &[("ed25519:o", 2)], &[]), 10);
        assert_eq!(newer.lookup("ed25519:o", 6), KeyLookup::Found([2; 32]));
    }

    #[test]
    fn hearsay_counts_where_it_fits_what_is_known() {
        let forged = answer(9 * DAY, &[("ed25519:a", 9)], &[]);
        let added = answer(9 * DAY, &[("ed25519:z", 9)], &[("ed25519:a", 1, 5)]);
        let revived = answer(9 * DAY, &[("ed25519:o", 2), ("ed25519:a", 1)], &[]);
        let changed = answer(9 * DAY, &[("ed25519:a", 1)], &[("ed25519:o", 9, DAY)]);
        let renewed = answer(9 * DAY, &[("ed25519:b", 3), ("ed25519:a", 1)], &[]);
        let first = answer(DAY, &[("ed25519:a", 1)], &[("ed25519:o", 2, 5)]);
        let known = KnownKeys::default().joined_with(&first, 0);
        for lie in [&forged, &added, &revived, &changed] {
            assert!(KnownKeys::default().agrees_with(lie));
            assert!(!known.agrees_with(lie), "{lie:?}");
        }
        assert!(known.agrees_with(&renewed));
    }

    #[test]
    fn our_old_keys_count_until_they_expired() {
        let current = KeyPair::from_seed("new", &[1; 32]).unwrap();
        let old = |key_id: &str, public: &str| OldVerifyKey {
            key_id: key_id.to_owned(),
            public: public.to_owned(),
            expired_ts: 500,
        };
        let padded = format!("{}=", rhizome_protocol::hash::to_base64(&[7; 32]));
        let known = ours(&current, &[old("ed25519:old", &padded)]).unwrap();
        assert_eq!(known.lookup("ed25519:old", 500), KeyLookup::Found([7; 32]));
        assert_eq!(known.lookup("ed25519:old", 501), KeyLookup::Expired);
        let now = KeyLookup::Found(current.public());
        assert_eq!(known.lookup("ed25519:new", DAY), now);
        for (wrong, why) in [
            (vec![old("ed25519:old", "abc")], "no valid public key"),
            (vec![old("old", &padded)], "is no key id"),
            (vec![old("ed25519:new", &padded)], "is the key in use"),
            (vec![old("ed25519:old", &padded); 101], "more than 100"),
        ] {
            let error = ours(&current, &wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_server_with_endless_keys_is_bounded() {
        let ids: Vec<String> = (0..500).map(|n| format!("ed25519:{n}")).collect();
        let current: Vec<_> = ids.iter().map(|id| (id.as_str(), 1)).collect();
        let known = KnownKeys::default().joined_with(&answer(DAY, &current, &[]), 0);
        assert_eq!(known.rows().len(), MAX_KEYS);
    }
}
