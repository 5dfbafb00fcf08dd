//! One-time keys are given out: the oldest first, then the fallback.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use ruma::OwnedDeviceId;

use super::{Named, Which};
use crate::engine::db::Tx;
use crate::engine::lock;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::engine::trouble::Trouble;
use crate::{Result, UserNo};

/// A one-time or fallback key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneTimeKey {
    /// Its algorithm.
    pub algorithm: String,
    /// Its id, the other half of its name.
    pub key_id: String,
    /// Its JSON text.
    pub key: Arc<str>,
}

/// A claim to a key of a device. What was given is in [`KeyClaim::given`] once it is committed.
#[derive(Debug, Clone)]
pub struct KeyClaim {
    /// Whose device.
    pub user: UserNo,
    /// Which.
    pub device: OwnedDeviceId,
    /// A key of which algorithm.
    pub algorithm: String,
    /// Tells this claim from all others, by which it is known again when COMMIT came to an unknown end: random, and
    /// not 0.
    pub number: i64,
    /// What the last attempt to write it gave.
    pub given: Arc<Mutex<Option<OneTimeKey>>>,
}

impl KeyClaim {
    fn which(&self) -> Which {
        (self.user, self.device.clone(), self.algorithm.clone())
    }

    /// Whether it was tried to write it before.
    fn was_tried(&self) -> bool {
        lock(&self.given).is_some()
    }
}

#[derive(Debug)]
struct Fallback {
    key: OneTimeKey,
    used: bool,
}

/// What claims are decided on, and what they come to.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Keys that nobody has got yet, as many as are claimed, in the order of upload.
    keys: HashMap<Which, VecDeque<OneTimeKey>>,
    fallbacks: HashMap<Which, Fallback>,
    /// Claims that an earlier attempt has written after all.
    done: HashSet<i64>,
    given: Vec<(Which, String, i64)>,
    used: Vec<(Which, String)>,
    /// The devices of these.
    touched: HashSet<(UserNo, OwnedDeviceId)>,
}

rows! {
    struct Asked<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        algorithm: &'a str,
        most: usize,
    }
}

rows! {
    struct Tried<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        algorithm: &'a str,
        number: i64,
    }
}

rows! {
    struct Given<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        algorithm: &'a str,
        key_id: &'a str,
        number: i64,
    }
}

/// The keys that claims get, oldest first, and the fallbacks. Where one key is wanted, as nearly always, the
/// device's others aren't looked at; which it is has to be known first, or PostgreSQL asks it of each of them.
const LOOK_UP: &str = "\
    WITH next AS MATERIALIZED (SELECT x.user_no, x.device_id, x.algorithm, \
    (SELECT MIN(m.seq) FROM one_time_key m WHERE m.user_no = x.user_no AND m.device_id = x.device_id \
    AND m.algorithm = x.algorithm AND m.claimed = 0) AS seq FROM ROWS($1) AS x WHERE x.most = 1) \
    SELECT 'key' AS what, k.user_no, k.device_id, k.algorithm, k.key_id, k.key, k.seq \
    FROM next AS x JOIN one_time_key k ON k.user_no = x.user_no AND k.device_id = x.device_id \
    AND k.algorithm = x.algorithm AND k.seq = x.seq AND k.claimed = 0 \
    UNION ALL SELECT 'key', user_no, device_id, algorithm, key_id, key, seq FROM (\
    SELECT k.user_no, k.device_id, k.algorithm, k.key_id, k.key, k.seq, x.most, ROW_NUMBER() OVER \
    (PARTITION BY k.user_no, k.device_id, k.algorithm ORDER BY k.seq) AS n FROM ROWS($1) AS x \
    JOIN one_time_key k ON k.user_no = x.user_no AND k.device_id = x.device_id \
    AND k.algorithm = x.algorithm AND k.claimed = 0 WHERE x.most > 1) AS ranked WHERE n <= most \
    UNION ALL SELECT 'fallback', f.user_no, f.device_id, f.algorithm, f.key_id, f.key, f.used \
    FROM ROWS($1) AS x JOIN fallback_key f ON f.user_no = x.user_no AND f.device_id = x.device_id \
    AND f.algorithm = x.algorithm ORDER BY 7";

impl Claims {
    pub(super) async fn look_up(
        &mut self,
        tx: &mut Tx,
        claims: &[&KeyClaim],
    ) -> Result<(), Trouble> {
        if claims.is_empty() {
            return Ok(());
        }
        self.look_up_tried(tx, claims).await?;
        let mut wanted: BTreeMap<(UserNo, &OwnedDeviceId, &str), usize> = BTreeMap::new();
        for claim in claims {
            let which = (claim.user, &claim.device, claim.algorithm.as_str());
            *wanted.entry(which).or_default() += 1;
        }
        let asked: Vec<_> = (wanted.into_iter())
            .map(|((user_no, device_id, algorithm), most)| Asked {
                user_no,
                device_id,
                algorithm,
                most,
            })
            .collect();
        let query = tx.sql(LOOK_UP).rows(&asked);
        for row in tx.rows(query).await? {
            let key = OneTimeKey {
                algorithm: row.get("algorithm")?,
                key_id: row.get("key_id")?,
                key: row.get("key")?,
            };
            let device = row.get("device_id")?;
            let which = (row.get("user_no")?, device, key.algorithm.clone());
            if row.get::<String>("what")? == "fallback" {
                let used = row.get("seq")?;
                self.fallbacks.insert(which, Fallback { key, used });
            } else {
                self.keys.entry(which).or_default().push_back(key);
            }
        }
        Ok(())
    }

    /// Which of the claims that were tried before have got their keys. Others may have got those in the meantime
    /// that an attempt without effect has given.
    async fn look_up_tried(&mut self, tx: &mut Tx, claims: &[&KeyClaim]) -> Result<(), Trouble> {
        let tried: Vec<_> = (claims.iter().filter(|claim| claim.was_tried()))
            .map(|claim| Tried {
                user_no: claim.user,
                device_id: &claim.device,
                algorithm: &claim.algorithm,
                number: claim.number,
            })
            .collect();
        if tried.is_empty() {
            return Ok(());
        }
        let query = tx
            .sql(
                "SELECT k.claimed FROM ROWS($1) AS x JOIN one_time_key k ON k.user_no = x.user_no \
                 AND k.device_id = x.device_id AND k.algorithm = x.algorithm AND k.claimed = x.number",
            )
            .rows(&tried);
        for row in tx.rows(query).await? {
            self.done.insert(row.get("claimed")?);
        }
        Ok(())
    }

    /// Whether an attempt of unknown outcome has given it a key.
    pub(super) fn has_given(&self, claim: &KeyClaim) -> bool {
        self.done.contains(&claim.number)
    }

    /// Whether the group gives any of a device's keys.
    pub(super) fn is_touched(&self, device: &(UserNo, OwnedDeviceId)) -> bool {
        self.touched.contains(device)
    }

    /// Gives the claim a key if there is one. Whether that changes anything.
    pub(super) fn give(&mut self, claim: &KeyClaim) -> bool {
        let changed = self.give_next(claim);
        if changed {
            self.touched.insert((claim.user, claim.device.clone()));
        }
        changed
    }

    fn give_next(&mut self, claim: &KeyClaim) -> bool {
        let which = claim.which();
        if let Some(key) = self.keys.get_mut(&which).and_then(VecDeque::pop_front) {
            self.given.push((which, key.key_id.clone(), claim.number));
            *lock(&claim.given) = Some(key);
            return true;
        }
        let fallback = self.fallbacks.get_mut(&which);
        *lock(&claim.given) = fallback.as_ref().map(|fallback| fallback.key.clone());
        let Some(fallback) = fallback.filter(|fallback| !fallback.used) else {
            return false;
        };
        fallback.used = true;
        self.used.push((which, fallback.key.key_id.clone()));
        true
    }

    pub(super) fn write(&self, statements: &mut Statements) -> Result<()> {
        let given: Vec<_> = (self.given.iter())
            .map(|((user, device, algorithm), key_id, number)| Given {
                user_no: *user,
                device_id: device,
                algorithm,
                key_id,
                number: *number,
            })
            .collect();
        statements.before(
            "UPDATE one_time_key SET claimed = x.number FROM ROWS($1) AS x \
             WHERE one_time_key.user_no = x.user_no AND one_time_key.device_id = x.device_id \
             AND one_time_key.algorithm = x.algorithm AND one_time_key.key_id = x.key_id",
            &given,
        )?;
        let used: Vec<_> = (self.used.iter())
            .map(|((user, device, algorithm), key_id)| Named {
                user_no: *user,
                device_id: device,
                algorithm,
                key_id,
            })
            .collect();
        statements.before(
            "UPDATE fallback_key SET used = 1 FROM ROWS($1) AS x \
             WHERE fallback_key.user_no = x.user_no AND fallback_key.device_id = x.device_id \
             AND fallback_key.algorithm = x.algorithm AND fallback_key.key_id = x.key_id",
            &used,
        )
    }
}
