//! Users whose content is erased (client-server `POST /account/deactivate` with `erase`): whoever comes later gets
//! it redacted. They are few, so all of them are kept in memory; reading an event asks for no more than that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ruma::{OwnedUserId, UserId};

use crate::engine::sql::Columns as _;
use crate::{Pos, Result, Store, UserNo};

/// The users whose content is erased.
#[derive(Debug, Default)]
pub struct Erasures(HashMap<OwnedUserId, Pos>);

impl Erasures {
    /// Up to when who could see what the user sent goes on seeing it; `None`: it isn't erased.
    pub fn of(&self, user: &UserId) -> Option<Pos> {
        // Mostly there is none, and then nothing is looked at.
        if self.0.is_empty() {
            return None;
        }
        self.0.get(user).copied()
    }
}

/// What is in memory, and how often it has become stale: what was read before that isn't kept.
#[derive(Debug, Default)]
pub(crate) struct KnownErasures {
    loaded: Option<Arc<Erasures>>,
    stale: u64,
}

impl Store {
    /// The users whose content is erased.
    pub async fn erasures(&self) -> Result<Arc<Erasures>> {
        let stale = {
            let known = self.known_erasures();
            if let Some(loaded) = &known.loaded {
                return Ok(loaded.clone());
            }
            known.stale
        };
        let query = self.sql("SELECT user_no, pos FROM erasure");
        let mut positions: HashMap<UserNo, Pos> = HashMap::new();
        for row in self.rows(query).await? {
            positions.insert(row.get("user_no")?, row.get("pos")?);
        }
        let nos: Vec<UserNo> = positions.keys().copied().collect();
        let names = self.users(&nos).await?;
        let erased = nos.iter().zip(names);
        let loaded = Arc::new(Erasures(
            erased.map(|(no, name)| (name, positions[no])).collect(),
        ));
        let mut known = self.known_erasures();
        if known.stale == stale {
            known.loaded = Some(loaded.clone());
        }
        Ok(loaded)
    }

    /// Somebody's sessions have all ended: perhaps their content is erased.
    pub(crate) fn forget_erasures(&self) {
        let mut known = self.known_erasures();
        known.loaded = None;
        known.stale += 1;
    }

    fn known_erasures(&self) -> std::sync::MutexGuard<'_, KnownErasures> {
        let known: &Mutex<KnownErasures> = &self.core.caches.erasures;
        known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use crate::facts::Fact;
    use crate::facts::account_data::{AccountData, DataChange};
    use crate::testing::each_database;
    use crate::{NewAccount, Pos};

    #[tokio::test]
    async fn who_is_erased_leaves_nothing_but_what_was_said() {
        each_database(async |store| {
            let (ada, bob) = (user_id!("@ada:here"), user_id!("@bob:here"));
            assert_eq!(store.erasures().await.unwrap().of(ada), None);
            let mut nos = Vec::new();
            for user in [ada, bob] {
                let account = NewAccount::default();
                let no = store
                    .create_account(user, account, None)
                    .await
                    .unwrap()
                    .unwrap();
                let data = AccountData {
                    user: no,
                    room: None,
                    kind: "org.example.mine".into(),
                    content: json!({ "secret": true }).to_string().into(),
                };
                let fact = Fact::from(DataChange { data, expect: None });
                store.commit(vec![fact].into()).await.unwrap();
                nos.push(no);
            }
            store.deactivate_account(nos[0], true).await.unwrap();
            store.deactivate_account(nos[1], false).await.unwrap();
            let erasures = store.erasures().await.unwrap();
            assert!(erasures.of(ada).is_some_and(|pos| pos > Pos(0)));
            assert_eq!(erasures.of(bob), None);
            for (no, left) in [(nos[0], 0), (nos[1], 1)] {
                let data = store.account_data_since(no, Pos(0), store.log().head());
                assert_eq!(data.await.unwrap().len(), left);
            }
        })
        .await;
    }
}
