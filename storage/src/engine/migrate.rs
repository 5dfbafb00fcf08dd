//! Brings the schema up to date when a store is opened.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, AssertSqlSafe, Executor as _, SqlSafeStr as _};

use crate::{Dialect, OpenError};

#[rustfmt::skip]
mod files { include!(concat!(env!("OUT_DIR"), "/migrations.rs")); }

/// The lowest schema number that a binary must know to work with the newest schema.
const OLDEST_BINARY: i64 = 64;

/// Applies what is missing, by a connection of its own that is told `setup` first.
pub(crate) async fn run(url: &str, dialect: Dialect, setup: &str) -> Result<(), OpenError> {
    sqlx::any::install_default_drivers();
    let setup = setup.to_owned();
    let pool = AnyPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(30))
        .after_connect(move |connection, _| {
            let setup = sqlx::raw_sql(AssertSqlSafe(setup.clone()));
            Box::pin(async move { connection.execute(setup).await.map(drop) })
        })
        .connect(url)
        .await?;
    let applied = apply(&pool, dialect).await;
    pool.close().await;
    applied
}

/// A schema newer than this binary is fine as long as it says so.
async fn apply(pool: &AnyPool, dialect: Dialect) -> Result<(), OpenError> {
    let migrations = load(dialect)?;
    let newest = migrations.last().map_or(0, |last| last.version);
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.set_ignore_missing(true);
    // One of a connection's own: nobody else gets it afterwards.
    let mut connection = pool.acquire().await?;
    let unhurried = sqlx::raw_sql(dialect.unhurried());
    unhurried.execute(&mut *connection).await?;
    announce(&mut connection, newest).await;
    let done = migrator.run_direct(None, &mut *connection, false).await;
    connection.close().await?;
    done.map_err(failed)?;
    check_version(pool, newest).await
}

/// Says that there is something to do in a database with something in it, since nobody is answered meanwhile.
async fn announce(connection: &mut sqlx::AnyConnection, newest: i64) {
    let applied = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations");
    // In an empty one there is no such table.
    let before: Option<i64> = applied.fetch_one(connection).await.ok().flatten();
    if let Some(before) = before.filter(|before| *before < newest) {
        tracing::info!(
            from = before,
            to = newest,
            "the database's form is brought up to date; where there is much in it that takes a while"
        );
    }
}

/// Fills an empty database, of which nobody else knows, by one list of statements: for tests, who fill many.
#[cfg(any(test, feature = "testing"))]
pub(crate) async fn fill(
    connection: &mut sqlx::AnyConnection,
    dialect: Dialect,
) -> Result<(), OpenError> {
    let migrations = load(dialect)?;
    let texts: Vec<_> = migrations.iter().map(|one| one.sql.as_str()).collect();
    let all = sqlx::raw_sql(AssertSqlSafe(texts.join(";\n")));
    connection.execute(all).await?;
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.set_locking(false);
    migrator.skip(connection, None).await.map_err(failed)
}

/// The migrations that this binary knows: numbers and checksums, ascending.
pub(crate) fn known(dialect: Dialect) -> Result<Vec<(i64, Vec<u8>)>, OpenError> {
    let known = load(dialect)?.into_iter();
    Ok(known
        .map(|one| (one.version, one.checksum.into_owned()))
        .collect())
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: sqlx::migrate::MigrateError) -> OpenError {
    OpenError::Migration(error.to_string())
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

#[cfg(test)]
mod tests {
    use sqlx::{AnyConnection, Connection as _};

    use super::*;
    use crate::testing::TestDatabase;
    use crate::{Options, Scratch, Store};

    /// Everything that the schema holds, in an order of its own.
    async fn schema(url: &str) -> Vec<String> {
        let text = match Dialect::of(url).unwrap() {
            Dialect::Sqlite => "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY sql",
            Dialect::Postgres => {
                "SELECT CAST(concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default) AS TEXT) \
                 FROM information_schema.columns WHERE table_schema = current_schema() \
                 UNION ALL SELECT replace(indexdef, current_schema(), '') FROM pg_indexes \
                 WHERE schemaname = current_schema() ORDER BY 1"
            }
        };
        let mut connection = AnyConnection::connect(url).await.unwrap();
        let found = sqlx::query_scalar(text).fetch_all(&mut connection).await;
        connection.close().await.unwrap();
        found.unwrap()
    }

    /// What 0021 makes of a room that is there already: its place in lists, and which of its state are members.
    #[tokio::test]
    async fn rooms_of_before_summaries_are_made_ready() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("before.db");
        let file = format!("sqlite:{}?mode=rwc", file.display());
        let server = std::env::var(crate::testing::POSTGRES_VARIABLE).unwrap();
        let scratch = Scratch::create(&server, "before").await.unwrap();
        sqlx::any::install_default_drivers();
        for url in [file.as_str(), scratch.url()] {
            let dialect = Dialect::of(url).unwrap();
            let pool = AnyPool::connect(url).await.unwrap();
            let mut before = load(dialect).unwrap();
            before.retain(|one| one.version < 21);
            let before = Migrator::with_migrations(before);
            before.run(&pool).await.unwrap();
            let rows = "\
                INSERT INTO room (no, room_id, state_version, extremities, joined, invited, public, last_pos) \
                VALUES (1, '!r:here', 1, '[]', 1, 0, 0, 7); \
                INSERT INTO state_key (no, kind, state_key) \
                VALUES (1, 'm.room.name', ''), (2, 'm.room.member', '@a:here'); \
                INSERT INTO current_state (room, state_key, event, pos) VALUES (1, 1, 1, 6), (1, 2, 2, 7)";
            sqlx::raw_sql(rows).execute(&pool).await.unwrap();
            apply(&pool, dialect).await.unwrap();
            let bump: i64 = sqlx::query_scalar("SELECT bump FROM room")
                .fetch_one(&pool)
                .await
                .unwrap();
            let plain: Vec<i64> =
                sqlx::query_scalar("SELECT state_key FROM current_state WHERE member = 0")
                    .fetch_all(&pool)
                    .await
                    .unwrap();
            assert_eq!((bump, plain), (7, vec![1]));
            pool.close().await;
        }
        scratch.remove().await.unwrap();
    }

    /// The tests' databases are filled by one list of statements: they are what a server's become step by step.
    #[tokio::test]
    async fn a_filled_database_is_one_that_was_migrated() {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("sqlite:{}", folder.path().join("migrated.db").display());
        let server = std::env::var(crate::testing::POSTGRES_VARIABLE).unwrap();
        let scratch = Scratch::create(&server, "migrated").await.unwrap();
        let [sqlite, postgres] = TestDatabase::both().await;
        for (migrated, filled) in [(file.as_str(), &sqlite), (scratch.url(), &postgres)] {
            let store = Store::open(Options::new(migrated)).await.unwrap();
            store.close().await;
            let expected = schema(migrated).await;
            assert!(expected.len() > 50, "{expected:?}");
            assert_eq!(schema(filled.url()).await, expected);
            // A server opens it as its own.
            filled.open().await.close().await;
            assert_eq!(schema(filled.url()).await, expected);
        }
        postgres.remove().await;
        scratch.remove().await.unwrap();
    }
}
