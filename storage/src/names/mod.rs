//! Names and their numbers.
//!
//! A name gets its number in a write of its own, before anything refers to it: if the commit that
//! wanted it fails, a number is wasted, nothing else.

pub(crate) mod numbers;

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use rhizome_protocol::StateKey;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId};
use sqlx::any::AnyRow;

use crate::engine::cache::Cache;
use crate::engine::db::{Columns as _, json_numbers, json_rows};
use crate::engine::dialect::escaped;
use crate::{Error, KeyNo, Result, RoomNo, ServerNo, Store, UserNo};

impl Store {
    /// The user's number, given now if they have none.
    pub async fn user_no(&self, user: &UserId) -> Result<UserNo> {
        match self.core.caches.users.get(user) {
            Some(no) => Ok(no),
            None => only(self.user_nos(&[user]).await?),
        }
    }

    /// The users' numbers, in their order, given now where they have none.
    pub async fn user_nos(&self, users: &[&UserId]) -> Result<Vec<UserNo>> {
        let users: Vec<OwnedUserId> = users.iter().map(|user| (*user).to_owned()).collect();
        let mut known = self.numbers(&self.core.caches.users, &users).await?;
        let new = missing(&users, &known);
        if !new.is_empty() {
            let servers: Vec<&ServerName> = new.iter().map(|user| user.server_name()).collect();
            let servers = self.server_nos(&servers).await?;
            let rows: Vec<_> = self
                .next_user_nos(new.len())
                .await?
                .into_iter()
                .zip(&new)
                .zip(servers)
                .map(|((no, user), server)| (no, escaped(user.as_str()), server))
                .collect();
            self.insert_names::<OwnedUserId, _>(&rows).await?;
            known.extend(self.numbers(&self.core.caches.users, &new).await?);
        }
        in_order(&users, &known)
    }

    /// The user's number, if they have one.
    pub async fn known_user(&self, user: &UserId) -> Result<Option<UserNo>> {
        if let Some(no) = self.core.caches.users.get(user) {
            return Ok(Some(no));
        }
        let found = self
            .numbers(&self.core.caches.users, &[user.to_owned()])
            .await?;
        Ok(found.into_values().next())
    }

    /// The users with these numbers, in their order. A number that was never given is an error.
    pub async fn users(&self, nos: &[UserNo]) -> Result<Vec<OwnedUserId>> {
        self.names(&self.core.caches.user_names, nos, |user| user)
            .await
    }

    /// The user with this number.
    pub async fn user(&self, no: UserNo) -> Result<OwnedUserId> {
        match self.core.caches.user_names.get(&no) {
            Some(user) => Ok(user),
            None => only(self.users(&[no]).await?),
        }
    }

    /// The number of an entry of states, given now if it has none.
    pub async fn key_no(&self, kind: &str, state_key: &str) -> Result<KeyNo> {
        only(self.key_nos(&[(kind, state_key)]).await?)
    }

    /// The numbers of these, in their order, given now where they have none.
    pub async fn key_nos(&self, keys: &[(&str, &str)]) -> Result<Vec<KeyNo>> {
        let keys: Vec<_> = keys
            .iter()
            .map(|(kind, key)| StateKey::new(*kind, *key))
            .collect();
        let mut known = self.numbers(&self.core.caches.keys, &keys).await?;
        let new = missing(&keys, &known);
        if !new.is_empty() {
            let rows: Vec<_> = self
                .next_key_nos(new.len())
                .await?
                .into_iter()
                .zip(&new)
                .map(|(no, key)| (no, escaped(&key.kind), escaped(&key.key)))
                .collect();
            self.insert_names::<StateKey, _>(&rows).await?;
            known.extend(self.numbers(&self.core.caches.keys, &new).await?);
        }
        in_order(&keys, &known)
    }

    /// The number, if the entry has one: without, no state has it.
    pub async fn known_key(&self, kind: &str, state_key: &str) -> Result<Option<KeyNo>> {
        Ok(self.known_keys(&[(kind, state_key)]).await?.pop().flatten())
    }

    /// The numbers of those that have one, in their order.
    pub async fn known_keys(&self, keys: &[(&str, &str)]) -> Result<Vec<Option<KeyNo>>> {
        let keys: Vec<_> = keys
            .iter()
            .map(|(kind, key)| StateKey::new(*kind, *key))
            .collect();
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
        self.names::<_, StateKey, _>(&self.core.caches.key_names, nos, Arc::new)
            .await
    }

    /// The servers' numbers, in their order, given now where they have none.
    pub async fn server_nos(&self, servers: &[&ServerName]) -> Result<Vec<ServerNo>> {
        let servers: Vec<OwnedServerName> = servers.iter().map(|name| (*name).to_owned()).collect();
        let mut known = self.numbers(&self.core.caches.servers, &servers).await?;
        let new = missing(&servers, &known);
        if !new.is_empty() {
            let nos = self.next_server_nos(new.len()).await?;
            let rows: Vec<_> = nos
                .into_iter()
                .zip(&new)
                .map(|(no, name)| (no, escaped(name.as_str()), ""))
                .collect();
            self.insert_names::<OwnedServerName, _>(&rows).await?;
            known.extend(self.numbers(&self.core.caches.servers, &new).await?);
        }
        in_order(&servers, &known)
    }

    /// The server's number, if it has one.
    pub async fn known_server(&self, server: &ServerName) -> Result<Option<ServerNo>> {
        let found = self
            .numbers(&self.core.caches.servers, &[server.to_owned()])
            .await?;
        Ok(found.into_values().next())
    }

    /// The servers with these numbers, in their order.
    pub async fn servers(&self, nos: &[ServerNo]) -> Result<Vec<OwnedServerName>> {
        self.names(&self.core.caches.server_names, nos, |name| name)
            .await
    }

    /// The room's number, given now if it has none: for rooms that we hear of. A room of our own
    /// gets [`Store::next_room_no`].
    pub async fn room_no(&self, room: &RoomId) -> Result<RoomNo> {
        if let Some(no) = self.known_room(room).await? {
            return Ok(no);
        }
        let rows = [(self.next_room_no().await?, escaped(room.as_str()), "")];
        self.insert_names::<OwnedRoomId, _>(&rows).await?;
        let known = self.known_room(room).await?;
        known.ok_or_else(|| Error::broken("a name was inserted and isn't there"))
    }

    /// The room's number, if it has one.
    pub async fn known_room(&self, room: &RoomId) -> Result<Option<RoomNo>> {
        if let Some(no) = self.core.caches.room_ids.get(room) {
            return Ok(Some(no));
        }
        let found = self
            .numbers(&self.core.caches.room_ids, &[room.to_owned()])
            .await?;
        Ok(found.into_values().next())
    }

    /// The id of the room with this number.
    pub async fn room_id(&self, no: RoomNo) -> Result<OwnedRoomId> {
        match self.core.caches.room_names.get(&no) {
            Some(room) => Ok(room),
            None => only(self.room_ids(&[no]).await?),
        }
    }

    /// The ids of the rooms with these numbers, in their order.
    pub async fn room_ids(&self, nos: &[RoomNo]) -> Result<Vec<OwnedRoomId>> {
        self.names(&self.core.caches.room_names, nos, |room| room)
            .await
    }

    /// The numbers of those names that have one.
    async fn numbers<N: Name>(
        &self,
        cache: &Cache<N, N::No>,
        names: &[N],
    ) -> Result<HashMap<N, N::No>> {
        let mut found = HashMap::with_capacity(names.len());
        let mut left = Vec::new();
        for name in names {
            match cache.get(name) {
                Some(no) => drop(found.insert(name.clone(), no)),
                None => left.push(name.columns()),
            }
        }
        if left.is_empty() {
            return Ok(found);
        }
        let query = self.sql(N::FIND).bind(json_rows(&left)?);
        for row in self.rows(query).await? {
            let (no, name) = (N::No::from(row.int(0)?), N::read(&row)?);
            cache.insert(name.clone(), no);
            found.insert(name, no);
        }
        Ok(found)
    }

    /// The names of numbers that were given, as `make` wraps them.
    async fn names<No, N: Name<No = No>, V: Clone>(
        &self,
        cache: &Cache<No, V>,
        nos: &[No],
        make: impl Fn(N) -> V,
    ) -> Result<Vec<V>>
    where
        No: From<i64> + Into<i64> + Copy + Eq + Hash,
    {
        let mut found = HashMap::with_capacity(nos.len());
        let mut left = Vec::new();
        for no in nos {
            match cache.get(no) {
                Some(name) => drop(found.insert(*no, name)),
                None => left.push((*no).into()),
            }
        }
        if !left.is_empty() {
            let query = self.sql(N::NAME).bind(json_numbers(left));
            for row in self.rows(query).await? {
                let (no, name) = (No::from(row.int(0)?), make(N::read(&row)?));
                cache.insert(no, name.clone());
                found.insert(no, name);
            }
        }
        in_order(nos, &found)
    }

    async fn insert_names<N: Name, R: serde::Serialize>(&self, rows: &[R]) -> Result<()> {
        let query = self.sql(N::INSERT).bind(json_rows(rows)?);
        self.execute(query).await?;
        Ok(())
    }
}

/// A kind of name, and its table.
trait Name: Clone + Eq + Hash {
    type No: From<i64> + Copy;
    /// Finds names: rows of [`Name::columns`] in, (number, name) out.
    const FIND: &'static str;
    /// Finds numbers: rows of one number in, (number, name) out.
    const NAME: &'static str;
    /// Inserts rows of (number, text, more) and leaves alone what is there.
    const INSERT: &'static str;
    fn columns(&self) -> (Cow<'_, str>, Cow<'_, str>);
    /// Reads the name from the columns after the number.
    fn read(row: &AnyRow) -> Result<Self>;
}

impl Name for OwnedUserId {
    type No = UserNo;
    const FIND: &'static str = "SELECT no, user_id FROM user_name WHERE user_id IN \
        (SELECT value ->> 0 FROM EACH($1))";
    const NAME: &'static str = "SELECT no, user_id FROM user_name WHERE no IN \
        (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1))";
    const INSERT: &'static str = "INSERT INTO user_name (no, user_id, server) \
        SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, CAST(value ->> 2 AS BIGINT) \
        FROM EACH($1) WHERE true ON CONFLICT (user_id) DO NOTHING";
    fn columns(&self) -> (Cow<'_, str>, Cow<'_, str>) {
        (escaped(self.as_str()), Cow::Borrowed(""))
    }
    fn read(row: &AnyRow) -> Result<Self> {
        row.id(1)
    }
}

impl Name for OwnedServerName {
    type No = ServerNo;
    const FIND: &'static str = "SELECT no, name FROM server_name WHERE name IN \
        (SELECT value ->> 0 FROM EACH($1))";
    const NAME: &'static str = "SELECT no, name FROM server_name WHERE no IN \
        (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1))";
    const INSERT: &'static str = "INSERT INTO server_name (no, name) \
        SELECT CAST(value ->> 0 AS BIGINT), value ->> 1 \
        FROM EACH($1) WHERE true ON CONFLICT (name) DO NOTHING";
    fn columns(&self) -> (Cow<'_, str>, Cow<'_, str>) {
        (escaped(self.as_str()), Cow::Borrowed(""))
    }
    fn read(row: &AnyRow) -> Result<Self> {
        row.id(1)
    }
}

impl Name for OwnedRoomId {
    type No = RoomNo;
    const FIND: &'static str = "SELECT no, room_id FROM room WHERE room_id IN \
        (SELECT value ->> 0 FROM EACH($1))";
    const NAME: &'static str = "SELECT no, room_id FROM room WHERE no IN \
        (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1))";
    const INSERT: &'static str = "INSERT INTO room (no, room_id, state_version, extremities, \
        joined, invited, public, last_pos) \
        SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, 0, '[]', 0, 0, 0, 0 \
        FROM EACH($1) WHERE true ON CONFLICT (room_id) DO NOTHING";
    fn columns(&self) -> (Cow<'_, str>, Cow<'_, str>) {
        (escaped(self.as_str()), Cow::Borrowed(""))
    }
    fn read(row: &AnyRow) -> Result<Self> {
        row.id(1)
    }
}

impl Name for StateKey {
    type No = KeyNo;
    const FIND: &'static str = "SELECT k.no, k.kind, k.state_key FROM EACH($1) \
        JOIN state_key k ON k.kind = value ->> 0 AND k.state_key = value ->> 1";
    const NAME: &'static str = "SELECT no, kind, state_key FROM state_key WHERE no IN \
        (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1))";
    const INSERT: &'static str = "INSERT INTO state_key (no, kind, state_key) \
        SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, value ->> 2 \
        FROM EACH($1) WHERE true ON CONFLICT (kind, state_key) DO NOTHING";
    fn columns(&self) -> (Cow<'_, str>, Cow<'_, str>) {
        (escaped(&self.kind), escaped(&self.key))
    }
    fn read(row: &AnyRow) -> Result<Self> {
        Ok(Self::new(row.text(1)?, row.text(2)?))
    }
}

/// Those of `names` that have no number, each once.
fn missing<N: Clone + Ord + Hash, No>(names: &[N], known: &HashMap<N, No>) -> Vec<N> {
    let mut new: Vec<N> = names
        .iter()
        .filter(|name| !known.contains_key(*name))
        .cloned()
        .collect();
    // In one order everywhere, so that two processes which insert the same names don't deadlock.
    new.sort();
    new.dedup();
    new
}

fn in_order<K: Eq + Hash, V: Clone>(wanted: &[K], found: &HashMap<K, V>) -> Result<Vec<V>> {
    wanted
        .iter()
        .map(|key| found.get(key).cloned())
        .collect::<Option<_>>()
        .ok_or_else(|| Error::broken("an interned name or number isn't there"))
}

fn only<T>(mut list: Vec<T>) -> Result<T> {
    list.pop()
        .ok_or_else(|| Error::broken("an interned name isn't there"))
}
