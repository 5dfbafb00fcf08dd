//! A PostgreSQL schema that lives for a while: for demonstrations and tests.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::{OpenError, Result, random};

/// A schema of its own in an existing PostgreSQL database. Take it away with [`Scratch::remove`].
#[derive(Debug)]
pub struct Scratch {
    server: String,
    schema: String,
    url: String,
}

impl Scratch {
    /// Makes a schema with a random name that begins with `prefix` (lower-case letters and `_`) in the
    /// database that `server` names.
    pub async fn create(server: &str, prefix: &str) -> Result<Self, OpenError> {
        if !(server.starts_with("postgres://") || server.starts_with("postgresql://")) {
            return Err(OpenError::Url);
        }
        let prefix: String = prefix
            .chars()
            .filter(|c| c.is_ascii_lowercase() || *c == '_')
            .collect();
        let schema = format!("{prefix}_{}", random::hex::<8>()?);
        execute(server, format!("CREATE SCHEMA {schema}")).await?;
        let separator = if server.contains('?') { '&' } else { '?' };
        let url = format!("{server}{separator}options=-c%20search_path%3D{schema}");
        Ok(Self {
            server: server.to_owned(),
            schema,
            url,
        })
    }

    /// The URL with which a store opens this schema.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Takes the schema away with all that is in it.
    pub async fn remove(self) -> Result<(), OpenError> {
        execute(&self.server, format!("DROP SCHEMA {} CASCADE", self.schema)).await
    }
}

async fn execute(server: &str, statement: String) -> Result<(), OpenError> {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(server).await?;
    // Both parts are ours: the schema's name has only letters, digits and `_`.
    let statement = format!("SET client_min_messages = warning; {statement}");
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(statement)))
        .await?;
    connection.close().await?;
    Ok(())
}
