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

    /// Makes room for a key in use, if one can be done without: the one that is longest over, of those that the answer doesn't
    /// say to be in use. Only the server itself (`is_newest`) can put one out of use so.
    fn forget_one(&mut self, answer: &ServerKeys, is_newest: bool) -> bool {
        let rest = self.keys.iter();
        let rest = rest.filter(|(id, key)| {
            let may_go = is_newest || matches!(key.until, Until::Expired(_));
            may_go && !answer.verify_keys.contains_key(*id)
        });
        let over = rest.min_by_key(|(_, key)| match key.until {
            Until::Expired(at) => (false, at),
            Until::Valid(until) => (true, until),
        });
        let Some(id) = over.map(|(id, _)| id.clone()) else {
            return false;
        };
        self.keys.remove(&id);
        true
    }

    /// With an answer of the server. Keys that it doesn't name stay, valid as long as was said.
    ///
    /// `is_newest`: the server has just given it itself, so it says how things are now. What a notary passes on may be old,
    /// whatever it says of its validity: it takes nothing back of what is known, and brings no key back into use.
    pub(crate) fn joined_with(&self, answer: &ServerKeys, is_newest: bool, now: i64) -> Self {
        let mut joined = Self {
            keys: self.keys.clone(),
            // A later one each time: it is the version of what is stored.
            fetched: now.max(self.fetched.saturating_add(1)),
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
        // What says otherwise than the server has said doesn't say either what is out of use since.
        let is_older = self.gainsays(answer) || self.ends().is_some_and(|newest| until < newest);
        // Keys in use come last: they win over an old one with the same id.
        for (id, public, until) in old.chain(current) {
            if !crate::xmatrix::is_key_id(id) {
                continue;
            }
            let is_full = joined.keys.len() >= MAX_KEYS && !joined.keys.contains_key(id);
            let is_valid = matches!(until, Until::Valid(_));
            if is_full && !(is_valid && joined.forget_one(answer, is_newest)) {
                continue;
            }
            let told = Key { public, until };
            let key = match self.keys.get(id) {
                Some(known) if !is_newest => known.beside(told, is_older),
                Some(known) => known.renewed(told),
                None => told,
            };
            joined.keys.insert(id.clone(), key);
        }
        joined
    }

    /// Whether the keys are the same, whenever they were asked for.
    pub(crate) fn has_same_keys(&self, other: &Self) -> bool {
        self.keys == other.keys
    }

    /// Whether an answer has a key in use of which something else is known: it is out of use, or another one.
    pub(crate) fn gainsays(&self, answer: &ServerKeys) -> bool {
        answer.verify_keys.iter().any(|(id, public)| {
            let known = self.keys.get(id);
            known.is_some_and(|known| {
                known.public != *public || matches!(known.until, Until::Expired(_))
            })
        })
    }
}

impl Key {
    /// This one, after what its server says of it now.
    fn renewed(self, told: Self) -> Self {
        match (self.until, told.until) {
            (Until::Valid(known), Until::Valid(new)) if self.public == told.public => Self {
                until: Until::Valid(new.max(known)),
                ..told
            },
            _ => told,
        }
    }

    /// This one, after what somebody else says that its server has said.
    fn beside(self, told: Self, is_older: bool) -> Self {
        if self.public != told.public {
            return self;
        }
        match (self.until, told.until) {
            (Until::Valid(known), Until::Valid(new)) => Self {
                until: Until::Valid(new.max(known)),
                ..self
            },
            (Until::Valid(_), Until::Expired(_)) if !is_older => told,
            _ => self,
        }
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
pub fn public_key(text: &str) -> Option<[u8; 32]> {
    STANDARD_NO_PAD
        .decode(text.trim_end_matches('='))
        .ok()?
        .try_into()
        .ok()
}

#[cfg(test)]
mod tests;
