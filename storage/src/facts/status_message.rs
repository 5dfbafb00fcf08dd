//! What users say of their presence: all of it that outlives a restart.

use super::Kind;
use super::last_of_each;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::{Result, Store, UserNo};

/// A user says something else of their presence, or nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusMessage {
    /// Who.
    pub user: UserNo,
    /// What.
    pub message: Option<String>,
}

rows! {
    struct Row<'a> {
        user_no: UserNo,
        message: Option<&'a str>,
    }
}

impl Kind for StatusMessage {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let rows = last_of_each(
            facts,
            |fact| fact.user,
            |_, fact| Row {
                user_no: fact.user,
                message: fact.message.as_deref(),
            },
        );
        statements.before(
            "DELETE FROM status_message WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
            &rows,
        )?;
        statements.before(
            "INSERT INTO status_message (user_no, message) \
             SELECT user_no, message FROM ROWS($1) AS x WHERE message IS NOT NULL",
            &rows,
        )
    }
}

impl Store {
    /// What a user here said last of their presence.
    pub async fn status_message(&self, user: UserNo) -> Result<Option<String>> {
        let query = self
            .sql("SELECT message FROM status_message WHERE user_no = $1")
            .bind(user);
        let row = self.row(query).await?;
        row.map(|row| row.get("message")).transpose()
    }
}
