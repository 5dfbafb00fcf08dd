//! Servers.

use ruma::{OwnedServerName, ServerName};

use super::{Name, in_order, missing};
use crate::engine::sql::{Columns as _, Query, ReadRow, rows};
use crate::{Result, ServerNo, Store};

impl Name for OwnedServerName {
    type No = ServerNo;
    const OF_NUMBERS: &'static str = "SELECT no, name FROM server_name WHERE no IN NUMBERS($1)";

    fn find(store: &Store, names: &[&Self]) -> Query {
        store
            .sql("SELECT no, name FROM server_name WHERE name IN TEXTS($1)")
            .texts(names.iter().copied())
    }

    fn read(row: &ReadRow) -> Result<Self> {
        row.get("name")
    }
}

rows! {
    struct NewServer<'a> {
        no: ServerNo,
        name: &'a ServerName,
    }
}

impl Store {
    /// The servers' numbers, in their order, given now where they have none.
    pub async fn server_nos(&self, servers: &[&ServerName]) -> Result<Vec<ServerNo>> {
        let servers: Vec<OwnedServerName> = servers.iter().map(|name| (*name).to_owned()).collect();
        let mut known = self.numbers(&self.core.caches.servers, &servers).await?;
        let new = missing(&servers, &known);
        if !new.is_empty() {
            self.insert_servers(&new).await?;
            known.extend(self.numbers(&self.core.caches.servers, &new).await?);
        }
        in_order(&servers, &known)
    }

    async fn insert_servers(&self, new: &[OwnedServerName]) -> Result<()> {
        let nos = self.next_server_nos(new.len()).await?;
        let rows = nos.into_iter().zip(new);
        let rows = rows.map(|(no, name)| NewServer { no, name });
        let query = self
            .sql(
                "INSERT INTO server_name (no, name) SELECT no, name \
                 FROM ROWS($1) AS x WHERE true ON CONFLICT (name) DO NOTHING",
            )
            .rows(&rows.collect::<Vec<_>>());
        self.execute(query).await?;
        Ok(())
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
        let cache = &self.core.caches.server_names;
        self.names(cache, nos, |name: OwnedServerName| name).await
    }
}
