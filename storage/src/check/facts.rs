//! What a database says of itself.

use super::moment::Moment;
use crate::engine::sql::Columns as _;
use crate::{Pos, Result};

/// Whose a database is, and how far it has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// The name of its server, if one has opened it.
    pub server: Option<String>,
    /// Which life it is in: positions of another mean nothing.
    pub epoch: Option<String>,
    /// The last position of the log.
    pub position: Pos,
    /// The newest migration that was applied.
    pub schema: i64,
}

pub(super) async fn read(moment: &mut Moment) -> Result<Option<DatabaseFacts>> {
    let count = moment.sql(moment.dialect().count_migration_tables());
    if moment.one::<i64>(count, "count").await? == 0 {
        return Ok(None);
    }
    let schema = "SELECT CAST(COALESCE(MAX(version), 0) AS BIGINT) AS schema FROM _sqlx_migrations";
    let schema: i64 = moment.one(moment.sql(schema), "schema").await?;
    if schema == 0 {
        return Ok(None);
    }
    let position = moment.sql("SELECT pos FROM counter WHERE id = 1");
    Ok(Some(DatabaseFacts {
        server: meta(moment, "server_name").await?,
        epoch: meta(moment, "epoch").await?,
        position: moment.one(position, "pos").await?,
        schema,
    }))
}

async fn meta(moment: &mut Moment, name: &str) -> Result<Option<String>> {
    let query = moment.sql("SELECT value FROM meta WHERE name = $1");
    let row = moment.row(query.bind(name)).await?;
    row.map(|row| row.get("value")).transpose()
}
