//! Users of any server.

use std::collections::HashMap;

use ruma::{OwnedUserId, ServerName, UserId};

use super::{Name, in_order, missing, only};
use crate::engine::sql::{Columns as _, Query, ReadRow, rows};
use crate::{Result, ServerNo, Store, UserNo};

impl Name for OwnedUserId {
    type No = UserNo;
    const OF_NUMBERS: &'static str = "SELECT no, user_id FROM user_name WHERE no IN NUMBERS($1)";

    fn find(store: &Store, names: &[&Self]) -> Query {
        store
            .sql("SELECT no, user_id FROM user_name WHERE user_id IN TEXTS($1)")
            .texts(names.iter().copied())
    }

    fn read(row: &ReadRow) -> Result<Self> {
        row.get("user_id")
    }
}

rows! {
    struct NewUser<'a> {
        no: UserNo,
        user_id: &'a UserId,
        server: ServerNo,
    }
}

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
            self.insert_users(&new).await?;
            known.extend(self.numbers(&self.core.caches.users, &new).await?);
        }
        in_order(&users, &known)
    }

    async fn insert_users(&self, new: &[OwnedUserId]) -> Result<()> {
        let servers: Vec<&ServerName> = new.iter().map(|user| user.server_name()).collect();
        let servers = self.server_nos(&servers).await?;
        let nos = self.next_user_nos(new.len()).await?;
        let rows = nos.into_iter().zip(new).zip(servers);
        let rows = rows.map(|((no, user_id), server)| NewUser {
            no,
            user_id,
            server,
        });
        let query = self
            .sql(
                "INSERT INTO user_name (no, user_id, server) SELECT no, user_id, server \
                 FROM ROWS($1) AS x WHERE true ON CONFLICT (user_id) DO NOTHING",
            )
            .rows(&rows.collect::<Vec<_>>());
        self.execute(query).await?;
        Ok(())
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

    /// The numbers of those of these users that have one, by one question at most.
    pub async fn known_users(&self, users: &[OwnedUserId]) -> Result<HashMap<OwnedUserId, UserNo>> {
        self.numbers(&self.core.caches.users, users).await
    }

    /// The users with these numbers, in their order. A number that was never given is an error.
    pub async fn users(&self, nos: &[UserNo]) -> Result<Vec<OwnedUserId>> {
        let cache = &self.core.caches.user_names;
        self.names(cache, nos, |user: OwnedUserId| user).await
    }

    /// The user with this number.
    pub async fn user(&self, no: UserNo) -> Result<OwnedUserId> {
        match self.core.caches.user_names.get(&no) {
            Some(user) => Ok(user),
            None => only(self.users(&[no]).await?),
        }
    }
}
