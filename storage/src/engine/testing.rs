//! Stores for tests, on both databases.

#![allow(
    clippy::expect_used,
    reason = "a test that can't be set up fails with these words"
)]

use std::future::Future;
use std::path::Path;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::rooms::snapshot::{Loaded, derive};
use crate::{Dialect, EventNo, KeyNo, Options, SnapshotNo, Store};

/// Where the PostgreSQL for tests is named.
pub const POSTGRES_VARIABLE: &str = "RHIZOME_TEST_POSTGRES";

/// A database of its own for one test; gone when it ends.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    /// The folder, of SQLite.
    folder: Option<tempfile::TempDir>,
    /// The schema's name and the server's URL, of PostgreSQL.
    schema: Option<(String, String)>,
}

impl TestDatabase {
    /// An SQLite database in a temporary folder.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self {
            url: format!("sqlite:{}", folder.path().join("rhizome.db").display()),
            folder: Some(folder),
            schema: None,
        }
    }

    /// A new schema in the PostgreSQL that `RHIZOME_TEST_POSTGRES` names.
    pub async fn postgres() -> Self {
        let Ok(server) = std::env::var(POSTGRES_VARIABLE) else {
            panic!(
                "{POSTGRES_VARIABLE} is not set: name a PostgreSQL for the tests, e.g. \
                 {POSTGRES_VARIABLE}=postgres://postgres@127.0.0.1:5432/postgres \
                 (scripts/test makes a throwaway one)"
            );
        };
        let name = crate::random::hex::<8>().expect("the system gives random bytes");
        let schema = format!("test_{name}");
        execute(&server, format!("CREATE SCHEMA {schema}")).await;
        let separator = if server.contains('?') { '&' } else { '?' };
        Self {
            url: format!("{server}{separator}options=-c%20search_path%3D{schema}"),
            folder: None,
            schema: Some((schema, server)),
        }
    }

    /// One of each.
    pub async fn both() -> [Self; 2] {
        [Self::sqlite(), Self::postgres().await]
    }

    /// The URL to open it with, any number of times.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Which database it is.
    pub fn dialect(&self) -> Dialect {
        Dialect::of(&self.url).expect("made above")
    }

    /// The folder in which an SQLite database lies.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(tempfile::TempDir::path)
    }

    /// Options for this database with few connections.
    pub fn options(&self) -> Options {
        Options {
            max_connections: 6,
            ..Options::new(&self.url)
        }
    }

    /// A store on it.
    pub async fn open(&self) -> Store {
        Store::open(self.options()).await.expect("the store opens")
    }

    /// Takes a PostgreSQL schema away. SQLite's folder goes by itself.
    pub async fn remove(self) {
        if let Some((schema, server)) = &self.schema {
            execute(server, format!("DROP SCHEMA {schema} CASCADE")).await;
        }
    }
}

/// Forgets every snapshot that is remembered, so that they are read from the database.
pub fn forget_snapshots(store: &Store) {
    store.core.caches.snapshots.clear();
}

/// Damages a stored snapshot: it then says what it said with `changes`. What shares nodes with it may become
/// unreadable. Caches keep the truth, so open the store again.
pub async fn spoil_snapshot(store: &Store, at: SnapshotNo, changes: &[(KeyNo, Option<EventNo>)]) {
    let entries = store.state_all(at).await.expect("the snapshot is whole");
    let mut entries: std::collections::BTreeMap<KeyNo, Option<EventNo>> = entries
        .into_iter()
        .map(|(key, event)| (key, Some(event)))
        .collect();
    entries.extend(changes.iter().copied());
    let entries: Vec<_> = entries.into_iter().collect();
    let nodes = derive(at, None, &entries, &Loaded::new()).expect("the keys are different");
    let query = store
        .sql("UPDATE state_snapshot SET body = UNHEX($1) WHERE no = $2")
        .bind(crate::engine::db::hex(&nodes.encode(at)))
        .bind(at);
    let touched = store.execute(query).await.expect("the row can be written");
    assert_eq!(touched, 1, "the snapshot is stored");
}

/// Whether the database takes writes from now on; what is stored can be read all the same.
pub async fn take_writes(store: &Store, takes: bool) {
    let statement = match (store.dialect(), takes) {
        (Dialect::Sqlite, true) => "PRAGMA query_only = OFF",
        (Dialect::Sqlite, false) => "PRAGMA query_only = ON",
        (Dialect::Postgres, true) => "SET default_transaction_read_only = off",
        (Dialect::Postgres, false) => "SET default_transaction_read_only = on",
    };
    tell_writers(store, statement).await;
}

/// Whether the disk of an SQLite database is full from now on.
pub async fn fill(store: &Store, full: bool) {
    // Less than there are pages already means: as many as there are.
    let statement = if full {
        "PRAGMA max_page_count = 1"
    } else {
        "PRAGMA max_page_count = 1000000"
    };
    tell_writers(store, statement).await;
}

/// Takes the log back, as a restored backup does.
pub async fn go_back(store: &Store, positions: i64) {
    let query = store
        .sql("UPDATE counter SET pos = pos - $1 WHERE id = 1")
        .bind(positions);
    store.execute(query).await.expect("the row can be written");
}

/// Runs a statement on every connection that writes.
async fn tell_writers(store: &Store, statement: &'static str) {
    let pool = &store.core.writers;
    let mut connections = Vec::new();
    for _ in 0..pool.options().get_max_connections() {
        let connection = pool.acquire().await;
        connections.push(connection.expect("a connection can be had"));
    }
    for connection in &mut connections {
        let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(statement)));
        done.await.expect("the statement is valid");
    }
}

async fn execute(server: &str, statement: String) {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(server)
        .await
        .expect("the PostgreSQL that RHIZOME_TEST_POSTGRES names can be reached");
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(format!(
            "SET client_min_messages = warning; {statement}"
        ))))
        .await
        .expect("the statement is valid");
}

/// Runs `test` with a fresh store on SQLite, then on PostgreSQL. The store is closed and its database
/// removed afterwards.
pub async fn each_database<F, R>(test: F)
where
    F: Fn(Store) -> R,
    R: Future<Output = ()>,
{
    for database in TestDatabase::both().await {
        let store = database.open().await;
        test(store.clone()).await;
        store.close().await;
        database.remove().await;
    }
}
