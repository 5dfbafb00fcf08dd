//! Brings the schema up to date when a store is opened.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, AssertSqlSafe, SqlSafeStr as _};

use crate::{Dialect, OpenError};

#[rustfmt::skip]
mod files { include!(concat!(env!("OUT_DIR"), "/migrations.rs")); }

/// The lowest schema number that a binary must know to work with the newest schema.
const OLDEST_BINARY: i64 = 1;

/// Applies what is missing. A schema newer than this binary is fine as long as it says so.
pub(crate) async fn run(pool: &AnyPool, dialect: Dialect) -> Result<(), OpenError> {
    let migrations = load(dialect)?;
    let newest = migrations.last().map_or(0, |last| last.version);
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.set_ignore_missing(true);
    migrator
        .run(pool)
        .await
        .map_err(|error| OpenError::Migration(error.to_string()))?;
    check_version(pool, newest).await
}

fn load(dialect: Dialect) -> Result<Vec<Migration>, OpenError> {
    files::FILES
        .iter()
        .map(|(name, text)| {
            let (number, what) = name.split_once('_').unwrap_or((name, ""));
            let version = number
                .parse()
                .map_err(|_| OpenError::Migration(format!("{name}: expected NNNN_what.sql")))?;
            Ok(Migration::new(
                version,
                Cow::Borrowed(what),
                MigrationType::Simple,
                AssertSqlSafe(dialect.schema(text)).into_sql_str(),
                false,
            ))
        })
        .collect()
}

async fn check_version(pool: &AnyPool, newest: i64) -> Result<(), OpenError> {
    let found: Option<String> =
        sqlx::query_scalar("SELECT value FROM meta WHERE name = 'oldest_binary'")
            .fetch_optional(pool)
            .await?;
    let oldest: i64 = found.and_then(|text| text.parse().ok()).unwrap_or(0);
    if oldest > newest {
        return Err(OpenError::TooNew {
            needs: oldest,
            knows: newest,
        });
    }
    if oldest < OLDEST_BINARY {
        sqlx::query(
            "INSERT INTO meta (name, value) VALUES ('oldest_binary', $1) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(OLDEST_BINARY.to_string())
        .execute(pool)
        .await?;
    }
    Ok(())
}
