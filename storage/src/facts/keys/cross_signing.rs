//! Users' cross-signing keys, of users here and of other servers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use rhizome_protocol::device_keys::KeyUsage;

use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::engine::trouble::Trouble;
use crate::facts::Kind;
use crate::facts::decision::Decision;
use crate::{CommitError, Result, UserNo};

/// Cross-signing keys change. Who has to hear of it is told by a [`DeviceList`](crate::DeviceList) beside it.
#[derive(Debug, Clone)]
pub struct CrossSigningKeys {
    /// Whose.
    pub user: UserNo,
    /// What they are from now on, as JSON without `unsigned`; `None` goes, and what isn't named stays.
    pub keys: Vec<(KeyUsage, Option<Arc<str>>)>,
    /// All that there was when this was decided; refused with [`CommitError::AccountMoved`] if there is something
    /// else by now, or the account has ended. `None` replaces whatever is there.
    pub expect: Option<BTreeMap<KeyUsage, Arc<str>>>,
    /// The public keys that this takes away: signatures by them and of them go.
    pub replaced: Vec<String>,
}

rows! {
    struct Row<'a> {
        user_no: UserNo,
        usage: &'static str,
        key: &'a str,
    }
}

rows! {
    struct Gone {
        user_no: UserNo,
        usage: &'static str,
    }
}

rows! {
    struct Replaced<'a> {
        user_no: UserNo,
        public: &'a str,
        key_id: String,
    }
}

/// Of users whose keys change only as decided on.
#[derive(Debug, Default)]
pub(crate) struct Known {
    keys: HashMap<UserNo, BTreeMap<KeyUsage, Arc<str>>>,
    /// Those whose account has ended.
    ended: HashSet<UserNo>,
}

const LOOK_UP: &str = "\
    SELECT user_no, usage, key FROM cross_signing_key WHERE user_no IN NUMBERS($1) \
    UNION ALL SELECT user_no, NULL, NULL FROM account \
    WHERE deactivated = 1 AND user_no IN NUMBERS($1)";

impl Kind for CrossSigningKeys {
    type Basis = Known;

    fn locks(&self) -> Option<UserNo> {
        Some(self.user)
    }

    async fn look_up(held: &mut Self::Basis, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let expecting = facts.iter().filter(|change| change.expect.is_some());
        let users: BTreeSet<UserNo> = expecting.map(|change| change.user).collect();
        if users.is_empty() {
            return Ok(());
        }
        let query = tx.sql(LOOK_UP).numbers(users);
        for row in tx.rows(query).await? {
            let user = row.get("user_no")?;
            let Some(usage) = row.get::<Option<String>>("usage")? else {
                held.ended.insert(user);
                continue;
            };
            if let Some(usage) = KeyUsage::parse(&usage) {
                let keys = held.keys.entry(user).or_default();
                keys.insert(usage, row.get("key")?);
            }
        }
        Ok(())
    }

    fn check(&self, held: &Self::Basis, retried: bool) -> Option<Decision> {
        let expect = self.expect.as_ref()?;
        let empty = BTreeMap::new();
        let now = held.keys.get(&self.user).unwrap_or(&empty);
        if retried
            && self
                .keys
                .iter()
                .all(|(usage, key)| now.get(usage) == key.as_ref())
        {
            return Some(Decision::Done(None));
        }
        let moved = now != expect || held.ended.contains(&self.user);
        moved.then_some(Decision::Refuse(CommitError::AccountMoved(self.user)))
    }

    fn apply(&self, held: &mut Self::Basis) -> bool {
        let now = held.keys.entry(self.user).or_default();
        for (usage, key) in &self.keys {
            match key {
                Some(key) => drop(now.insert(*usage, key.clone())),
                None => drop(now.remove(usage)),
            }
        }
        true
    }

    fn write(facts: &[(i64, &Self)], _: &Self::Basis, statements: &mut Statements) -> Result<()> {
        let mut last: BTreeMap<(UserNo, KeyUsage), Option<&str>> = BTreeMap::new();
        let mut replaced = Vec::new();
        for (_, change) in facts {
            for (usage, key) in &change.keys {
                last.insert((change.user, *usage), key.as_deref());
            }
            replaced.extend(change.replaced.iter().map(|public| Replaced {
                user_no: change.user,
                public,
                key_id: format!("ed25519:{public}"),
            }));
        }
        let (mut gone, mut set) = (Vec::new(), Vec::new());
        for ((user_no, usage), key) in last {
            let usage = usage.as_str();
            match key {
                Some(key) => set.push(Row {
                    user_no,
                    usage,
                    key,
                }),
                None => gone.push(Gone { user_no, usage }),
            }
        }
        for text in [
            "DELETE FROM key_signature WHERE (target_user, target_id) IN \
             (SELECT user_no, public FROM ROWS($1) AS x)",
            "DELETE FROM key_signature WHERE (signer, signer_key) IN \
             (SELECT user_no, key_id FROM ROWS($1) AS x)",
        ] {
            statements.before(text, &replaced)?;
        }
        statements.before(
            "DELETE FROM cross_signing_key WHERE (user_no, usage) IN \
             (SELECT user_no, usage FROM ROWS($1) AS x)",
            &gone,
        )?;
        statements.before(
            "INSERT INTO cross_signing_key (user_no, usage, key) \
             SELECT user_no, usage, key FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (user_no, usage) DO UPDATE SET key = excluded.key",
            &set,
        )
    }
}
