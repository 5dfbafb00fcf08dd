//! What users say of their presence: all of it that outlives a restart.

use std::sync::Arc;

use super::{Audience, Kind, LoggedKind, Stored, last_of_each};
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::{Pos, Result, Store, UserNo};

/// A user says something else of their presence, or nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusMessage {
    /// Who.
    pub user: UserNo,
    /// What; never empty.
    pub message: Option<Arc<str>>,
}

rows! {
    struct Row<'a> {
        user_no: UserNo,
        message: &'a str,
        pos: i64,
    }
}

impl Kind for StatusMessage {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let rows = last_of_each(
            facts,
            |fact| fact.user,
            |pos, fact| Row {
                user_no: fact.user,
                message: fact.message.as_deref().unwrap_or_default(),
                pos,
            },
        );
        statements.after(
            "INSERT INTO status_message (user_no, message, pos) \
             SELECT user_no, message, pos + $2 FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (user_no) DO UPDATE SET message = excluded.message, pos = excluded.pos",
            &rows,
        )
    }
}

impl Stored for StatusMessage {
    const TABLE: &'static str = "status_message";
    const COLUMNS: &'static str = "pos, user_no, message";

    fn read(row: &ReadRow) -> Result<Self> {
        Ok(Self {
            user: row.get("user_no")?,
            message: message(row)?,
        })
    }
}

fn message(row: &ReadRow) -> Result<Option<Arc<str>>> {
    let message: String = row.get("message")?;
    Ok((!message.is_empty()).then(|| message.into()))
}

impl LoggedKind for StatusMessage {
    type Entry = Self;

    fn entry(&self) -> Self {
        self.clone()
    }

    /// Who is to be told of it hears it with who is there.
    fn audience(_: &Self) -> Audience {
        Audience::Nobody
    }

    fn weight(entry: &Self) -> usize {
        entry.message.as_deref().map_or(0, str::len)
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self {
            user: world.user,
            message: Some("at the sea".into()),
        }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        Ok(format!("{:?}", store.status_message(world.user).await?))
    }
}

impl Store {
    /// What a user here said last of their presence.
    pub async fn status_message(&self, user: UserNo) -> Result<Option<Arc<str>>> {
        Ok(self.status_message_at(user).await?.0)
    }

    /// The same, and its place in the log.
    pub(crate) async fn status_message_at(&self, user: UserNo) -> Result<(Option<Arc<str>>, Pos)> {
        let query = self
            .sql("SELECT message, pos FROM status_message WHERE user_no = $1")
            .bind(user);
        let Some(row) = self.row(query).await? else {
            return Ok((None, Pos(0)));
        };
        let pos: Option<Pos> = row.get("pos")?;
        Ok((message(&row)?, pos.unwrap_or(Pos(0))))
    }
}
