//! Entries of states: an event type with a state key.

use std::sync::Arc;

use rhizome_protocol::StateKey;

use super::{Name, in_order, missing, only};
use crate::engine::sql::{Columns as _, Query, ReadRow, rows};
use crate::{KeyNo, Result, Store};

impl Name for StateKey {
    type No = KeyNo;
    const OF_NUMBERS: &'static str =
        "SELECT no, kind, state_key FROM state_key WHERE no IN NUMBERS($1)";

    fn find(store: &Store, names: &[&Self]) -> Query {
        let asked = names.iter().map(|key| Asked {
            kind: &key.kind,
            state_key: &key.key,
        });
        store
            .sql(
                "SELECT k.no, k.kind, k.state_key FROM ROWS($1) AS x \
                 JOIN state_key k ON k.kind = x.kind AND k.state_key = x.state_key",
            )
            .rows(&asked.collect::<Vec<_>>())
    }

    fn read(row: &ReadRow) -> Result<Self> {
        let (kind, key): (String, String) = (row.get("kind")?, row.get("state_key")?);
        Ok(Self::new(kind, key))
    }
}

rows! {
    struct Asked<'a> {
        kind: &'a str,
        state_key: &'a str,
    }
}

rows! {
    struct NewKey<'a> {
        no: KeyNo,
        kind: &'a str,
        state_key: &'a str,
    }
}

impl Store {
    /// The number of an entry of states, given now if it has none.
    pub async fn key_no(&self, kind: &str, state_key: &str) -> Result<KeyNo> {
        only(self.key_nos(&[(kind, state_key)]).await?)
    }

    /// The numbers of these, in their order, given now where they have none.
    pub async fn key_nos(&self, keys: &[(&str, &str)]) -> Result<Vec<KeyNo>> {
        let keys = state_keys(keys);
        let mut known = self.numbers(&self.core.caches.keys, &keys).await?;
        let new = missing(&keys, &known);
        if !new.is_empty() {
            self.insert_keys(&new).await?;
            known.extend(self.numbers(&self.core.caches.keys, &new).await?);
        }
        in_order(&keys, &known)
    }

    async fn insert_keys(&self, new: &[StateKey]) -> Result<()> {
        let nos = self.next_key_nos(new.len()).await?;
        let rows = nos.into_iter().zip(new).map(|(no, key)| NewKey {
            no,
            kind: &key.kind,
            state_key: &key.key,
        });
        let query = self
            .sql(
                "INSERT INTO state_key (no, kind, state_key) SELECT no, kind, state_key \
                 FROM ROWS($1) AS x WHERE true ON CONFLICT (kind, state_key) DO NOTHING",
            )
            .rows(&rows.collect::<Vec<_>>());
        self.execute(query).await?;
        Ok(())
    }

    /// The number, if the entry has one: without, no state has it.
    pub async fn known_key(&self, kind: &str, state_key: &str) -> Result<Option<KeyNo>> {
        Ok(self.known_keys(&[(kind, state_key)]).await?.pop().flatten())
    }

    /// The numbers of those that have one, in their order.
    pub async fn known_keys(&self, keys: &[(&str, &str)]) -> Result<Vec<Option<KeyNo>>> {
        let keys = state_keys(keys);
        let known = self.numbers(&self.core.caches.keys, &keys).await?;
        Ok(keys.iter().map(|key| known.get(key).copied()).collect())
    }

    /// The entry with this number.
    pub async fn key(&self, no: KeyNo) -> Result<Arc<StateKey>> {
        match self.core.caches.key_names.get(&no) {
            Some(key) => Ok(key),
            None => only(self.keys(&[no]).await?),
        }
    }

    /// The entries with these numbers, in their order.
    pub async fn keys(&self, nos: &[KeyNo]) -> Result<Vec<Arc<StateKey>>> {
        let cache = &self.core.caches.key_names;
        self.names(cache, nos, Arc::<StateKey>::new).await
    }
}

fn state_keys(keys: &[(&str, &str)]) -> Vec<StateKey> {
    let keys = keys.iter();
    keys.map(|(kind, key)| StateKey::new(*kind, *key)).collect()
}
