//! What other servers are to get: a queue for each, from which the sender takes by position.

use std::sync::Arc;

use ruma::{OwnedServerName, ServerName};

use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::facts::{Audience, Kind, LoggedKind, Stored};
use crate::{Pos, Result, Store};

/// An EDU for another server that must arrive.
#[derive(Debug, Clone)]
pub struct ToDeviceOut {
    /// For whom.
    pub server: OwnedServerName,
    /// All of it, as canonical JSON.
    pub edu: Arc<str>,
    /// Now, in milliseconds since 1970.
    pub queued_ms: i64,
}

/// That there is something for another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForServer {
    /// Which.
    pub server: OwnedServerName,
}

rows! {
    struct Row<'a> {
        pos: i64,
        server: &'a OwnedServerName,
        edu: &'a str,
        queued_ms: i64,
    }
}

rows! {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct Arrived<'a> {
        server: &'a OwnedServerName,
        upto: Pos,
    }
}

impl Kind for ToDeviceOut {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let rows: Vec<_> = (facts.iter())
            .map(|(pos, out)| Row {
                pos: *pos,
                server: &out.server,
                edu: &out.edu,
                queued_ms: out.queued_ms,
            })
            .collect();
        statements.after(
            "INSERT INTO to_device_out (pos, server, edu, queued_ms) \
             SELECT pos + $2, server, edu, queued_ms FROM ROWS($1) AS x",
            &rows,
        )
    }
}

impl LoggedKind for ToDeviceOut {
    type Entry = ForServer;

    fn entry(&self) -> ForServer {
        ForServer {
            server: self.server.clone(),
        }
    }

    fn audience(_: &ForServer) -> Audience {
        Audience::Nobody
    }

    fn weight(out: &ForServer) -> usize {
        out.server.as_str().len()
    }

    #[cfg(test)]
    fn sample(_: &crate::facts::tests::World) -> Self {
        Self {
            server: ruma::owned_server_name!("there"),
            edu: "{}".into(),
            queued_ms: 5,
        }
    }

    #[cfg(test)]
    async fn view(_: &crate::facts::tests::World, store: &Store) -> Result<String> {
        let there = ruma::server_name!("there");
        let behind = store.destinations_behind_to_device().await?;
        let waiting = store.to_device_out(there, Pos(0), Pos(i64::MAX), 9).await?;
        Ok(format!("{behind:?} {waiting:?}"))
    }
}

impl Store {
    /// The EDUs that wait for a server with `after < pos ≤ upto`, in their order, at most `limit`.
    pub async fn to_device_out(
        &self,
        server: &ServerName,
        after: Pos,
        upto: Pos,
        limit: usize,
    ) -> Result<Vec<(Pos, Arc<str>)>> {
        let query = self
            .sql(
                "SELECT pos, edu FROM to_device_out WHERE server = $1 AND pos > $2 AND pos <= $3 \
                 ORDER BY pos LIMIT $4",
            )
            .bind(server)
            .bind(after)
            .bind(upto)
            .bind(limit);
        let waiting = |row: &ReadRow| Ok((row.get("pos")?, row.get("edu")?));
        self.rows(query).await?.iter().map(waiting).collect()
    }

    /// Deletes what has arrived: at each of these servers everything up to a position.
    pub async fn forget_to_device_out(&self, arrived: &[(OwnedServerName, Pos)]) -> Result<()> {
        if arrived.is_empty() {
            return Ok(());
        }
        let row = |(server, upto)| Arrived { server, upto };
        let mut rows: Vec<_> = (arrived.iter())
            .map(|(server, upto)| row((server, *upto)))
            .collect();
        rows.sort_unstable();
        let query = self
            .sql(
                "DELETE FROM to_device_out WHERE pos IN (SELECT o.pos FROM ROWS($1) AS x \
                 JOIN to_device_out o ON o.server = x.server AND o.pos <= x.upto)",
            )
            .rows(&rows);
        self.execute(query).await?;
        Ok(())
    }

    /// The destinations for which something waits that they haven't got.
    pub async fn destinations_behind_to_device(&self) -> Result<Vec<OwnedServerName>> {
        let query = self.sql(
            "SELECT o.server FROM (SELECT server, MAX(pos) AS pos FROM to_device_out \
             GROUP BY server) o LEFT JOIN destination_state s ON s.server = o.server \
             WHERE s.sent_pos IS NULL OR s.sent_pos < o.pos",
        );
        let name = |row: &ReadRow| row.get("server");
        self.rows(query).await?.iter().map(name).collect()
    }
}

impl Stored for ForServer {
    const TABLE: &'static str = "to_device_out";
    const COLUMNS: &'static str = "pos, server";

    fn read(row: &ReadRow) -> Result<Self> {
        Ok(Self {
            server: row.get("server")?,
        })
    }
}
