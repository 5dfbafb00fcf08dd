//! What an operator wants done about a server that we send to. It is so with the commit; the rows only tell the process that
//! sends, which has it in memory as well.

use ruma::OwnedServerName;

use super::table::table;
use super::{Audience, Kind, LoggedKind};
use crate::Result;
use crate::engine::sql::statement::Statements;

table! {
    /// The operator wants a server to be tried again at once, or what waits for it to be let go.
    pub struct Directive in directive {
        key {
            /// Which server.
            server: OwnedServerName = server,
            /// Whether what waits for it, up to here, is let go. Otherwise it is tried again.
            forgets: bool = forgets,
        }
    }
}

impl Kind for Directive {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let rows: Vec<_> = (facts.iter())
            .map(|(pos, directive)| Self::row(*pos, directive))
            .collect();
        statements.after(
            "UPDATE destination_state SET retry_at = 0 WHERE server IN \
             (SELECT server FROM ROWS($1) AS x WHERE forgets = 0)",
            &rows,
        )?;
        statements.after(
            "INSERT INTO destination_state (server, sent_pos, failures, retry_at) \
             SELECT server, MAX(pos) + $2, 0, 0 FROM ROWS($1) AS x WHERE forgets = 1 GROUP BY server \
             ON CONFLICT (server) DO UPDATE SET sent_pos = CASE \
             WHEN excluded.sent_pos > destination_state.sent_pos THEN excluded.sent_pos \
             ELSE destination_state.sent_pos END",
            &rows,
        )?;
        Self::put(facts, statements)
    }
}

impl LoggedKind for Directive {
    type Entry = Self;
    const TELLS: bool = true;

    fn entry(&self) -> Self {
        self.clone()
    }

    fn audience(_: &Self) -> Audience {
        Audience::Nobody
    }

    #[cfg(test)]
    fn sample(_: &super::tests::World) -> Self {
        Self {
            server: ruma::owned_server_name!("there"),
            forgets: true,
        }
    }

    #[cfg(test)]
    async fn view(_: &super::tests::World, store: &crate::Store) -> Result<String> {
        let state = store.destination_state(ruma::server_name!("there")).await?;
        Ok(format!("{state:?}"))
    }
}
