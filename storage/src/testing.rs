//! Stores for tests, on both databases.

#![allow(
    clippy::expect_used,
    reason = "a test that can't be set up fails with these words"
)]

mod failover;
mod plans;
mod relations;
mod waiting;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::LazyLock;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

pub use self::failover::cut_connections;
pub use self::plans::check_commit_plans;
pub use self::relations::{blank_relations, forget_relations, relation_rows, thread_rows};
pub use self::waiting::{Pauses, eventually, soon};
use crate::engine::database::Database;
use crate::engine::migrate;
use crate::engine::sql::Columns as _;
use crate::rooms::snapshot::{Loaded, derive};
use crate::{Dialect, EventNo, KeyNo, Options, RoomNo, RoomSummary, Scratch, SnapshotNo, Store};

/// Where the PostgreSQL for tests is named.
pub const POSTGRES_VARIABLE: &str = "RHIZOME_TEST_POSTGRES";

/// The file of an SQLite database with today's schema and nothing in it, made once per process.
static TEMPLATE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    // A thread of its own, because whoever is first may be in a runtime.
    let made = std::thread::spawn(|| {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = folder.path().join("template.db");
        let filling = async {
            let url = format!("sqlite:{}?mode=rwc", file.display());
            let mut connection = connect(&url).await;
            let setup = Dialect::Sqlite.setup(false, Options::MEMORY);
            let setup = connection.execute(sqlx::raw_sql(AssertSqlSafe(setup)));
            setup.await.expect("the statements are valid");
            let filled = migrate::fill(&mut connection, Dialect::Sqlite);
            filled.await.expect("the migrations can be applied");
            connection.close().await.expect("it is written");
        };
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime can be made")
            .block_on(filling);
        std::fs::read(file).expect("it was just written")
    });
    made.join().expect("the template can be made")
});

/// A database of its own for one test, with today's schema; gone when it ends.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    /// The folder, of SQLite.
    folder: Option<tempfile::TempDir>,
    /// The schema, of PostgreSQL.
    schema: Option<Scratch>,
}

impl TestDatabase {
    /// An SQLite database in a temporary folder.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = folder.path().join("rhizome.db");
        std::fs::write(&file, &*TEMPLATE).expect("the folder takes a file");
        Self {
            url: format!("sqlite:{}", file.display()),
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
        let schema = Scratch::create(&server, "test")
            .await
            .expect("the PostgreSQL that RHIZOME_TEST_POSTGRES names can be reached");
        let mut connection = connect(schema.url()).await;
        // A schema costs a sixth of what a database made from a template costs there.
        let filled = migrate::fill(&mut connection, Dialect::Postgres);
        filled.await.expect("the migrations can be applied");
        connection.close().await.expect("nothing is open");
        Self {
            url: schema.url().to_owned(),
            folder: None,
            schema: Some(schema),
        }
    }

    /// One of either.
    pub async fn new(postgres: bool) -> Self {
        if postgres {
            Self::postgres().await
        } else {
            Self::sqlite()
        }
    }

    /// So many of either.
    pub async fn several(postgres: bool, count: usize) -> Vec<Self> {
        let mut databases = Vec::with_capacity(count);
        for _ in 0..count {
            databases.push(Self::new(postgres).await);
        }
        databases
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

    /// Options for this database with few connections. Nothing waits for a disk: who tests that starts processes.
    pub fn options(&self) -> Options {
        Options {
            max_connections: 6,
            durable: false,
            ..Options::new(&self.url)
        }
    }

    /// A store on it.
    pub async fn open(&self) -> Store {
        Store::open(self.options()).await.expect("the store opens")
    }

    /// Takes a PostgreSQL schema away. SQLite's folder goes by itself.
    pub async fn remove(self) {
        if let Some(schema) = self.schema {
            schema.remove().await.expect("the schema can be dropped");
        }
    }
}

async fn connect(url: &str) -> sqlx::AnyConnection {
    sqlx::any::install_default_drivers();
    let connected = sqlx::AnyConnection::connect(url).await;
    connected.expect("the database can be reached")
}

/// How many readers there are that hear of news.
pub fn readers(store: &Store) -> usize {
    store.core.tail.readers()
}

/// Forgets every snapshot that is remembered, so that they are read from the database.
pub fn forget_snapshots(store: &Store) {
    store.core.caches.snapshots.clear();
}

/// Damages a stored snapshot: it then says what it said with `changes`. What shares nodes with it may become
/// unreadable. Caches keep the truth, so open the store again.
pub async fn spoil_snapshot(store: &Store, at: SnapshotNo, changes: &[(KeyNo, Option<EventNo>)]) {
    let entries = store.state_all(at).await.expect("the snapshot is whole");
    let mut entries: BTreeMap<KeyNo, Option<EventNo>> = entries
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

/// Damages what is stored, by a statement in the words of `engine/dialect.rs`.
pub async fn spoil(store: &Store, statement: &'static str) {
    let touched = store.execute(store.sql(statement)).await;
    let touched = touched.expect("the statement is valid");
    assert!(touched > 0, "{statement} touches something");
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

/// Every room's summary, stored and remembered, is what its current state says, read past everything else; and so is what
/// is read of the state without members.
pub async fn check_summaries(store: &Store, story: &str) {
    let rooms = store.sql("SELECT no, snapshot FROM room WHERE version IS NOT NULL");
    let rooms = store.rows(rooms).await.expect("rooms can be read");
    for row in &rooms {
        let room: RoomNo = row.get("no").expect("a room has a number");
        let snapshot: Option<SnapshotNo> = row.get("snapshot").expect("it may have a state");
        let Some(snapshot) = snapshot else { continue };
        let said = said(store, snapshot).await;
        let stored = store.summary_rows(&[room]).await;
        let mut stored = stored.expect("summaries can be read");
        let stored = stored.remove(&room);
        assert_eq!(stored.as_ref(), Some(&said), "{story}: room {room}, stored");
        let known = store.room_summary(room).await;
        let known = known.expect("a summary can be read");
        assert_eq!(*known, said, "{story}: room {room}, remembered");
        check_plain_entries(store, (room, snapshot), story).await;
    }
}

/// What the database holds of a room's current state beside members is what the snapshot holds beside them.
async fn check_plain_entries(store: &Store, (room, at): (RoomNo, SnapshotNo), story: &str) {
    let mut all = store.state_all(at).await.expect("the snapshot is whole");
    let plain = store.current_without_members(&[room]).await;
    let plain = plain.expect("the rows can be read").into_iter();
    let mut plain: Vec<_> = plain.map(|(_, entry, _)| entry).collect();
    for entries in [&mut all, &mut plain] {
        let nos: Vec<KeyNo> = entries.iter().map(|(key, _)| *key).collect();
        let keys = store.keys(&nos).await.expect("they have names");
        let mut is_plain = keys.iter().map(|key| key.kind != "m.room.member");
        entries.retain(|_| is_plain.next() == Some(true));
        entries.sort_unstable();
    }
    assert_eq!(plain, all, "{story}: room {room}, without members");
}

/// What a state says, word by word.
async fn said(store: &Store, at: SnapshotNo) -> RoomSummary {
    let entries = store.state_all(at).await.expect("the snapshot is whole");
    let nos: Vec<EventNo> = entries.iter().map(|(_, event)| *event).collect();
    let events = store.reload_events(&nos).await;
    let mut state: BTreeMap<String, serde_json::Value> = BTreeMap::new();
    for event in events.expect("they are stored") {
        if event.pdu.state_key() == Some("") {
            let content = serde_json::Value::Object(event.pdu.content().clone());
            state.insert(event.pdu.kind().to_owned(), content);
        }
    }
    let value = |kind: &str, field: &str| state.get(kind).and_then(|content| content.get(field));
    let text = |kind: &str, field: &str| match value(kind, field) {
        Some(serde_json::Value::String(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    let id = |kind: &str, field: &str| text(kind, field).filter(|text| text.len() <= 255);
    let mut allowed = Vec::new();
    if let Some(serde_json::Value::Array(conditions)) = value("m.room.join_rules", "allow") {
        for condition in conditions {
            if condition["type"] == "m.room_membership"
                && let Some(Ok(room)) = condition["room_id"].as_str().map(TryInto::try_into)
            {
                allowed.push(room);
            }
        }
    }
    RoomSummary {
        name: text("m.room.name", "name"),
        topic: text("m.room.topic", "topic"),
        avatar: text("m.room.avatar", "url"),
        alias: id("m.room.canonical_alias", "alias"),
        room_type: id("m.room.create", "type"),
        federate: value("m.room.create", "m.federate") != Some(&false.into()),
        encryption: id("m.room.encryption", "algorithm"),
        join_rule: id("m.room.join_rules", "join_rule"),
        allowed,
        history_visibility: id("m.room.history_visibility", "history_visibility"),
        guest_access: id("m.room.guest_access", "guest_access"),
        replacement: id("m.room.tombstone", "replacement_room"),
    }
}

/// Takes a room's summary away, as if it were from before there were any.
pub async fn lose_summaries(store: &Store) {
    let query = store.sql("DELETE FROM room_summary");
    store.execute(query).await.expect("rows can be deleted");
    store.core.caches.summaries.clear();
}

async fn run(store: &Store, statement: &'static str) {
    (store.execute(store.sql(statement)).await).expect("rows can be written");
}

/// How many rows a table has.
pub async fn count_rows(store: &Store, table: &str) -> i64 {
    let mut connection = connect(&store.core.options.url).await;
    let query = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    let counted = sqlx::query_scalar(query).fetch_one(&mut connection).await;
    connection.close().await.expect("nothing is open");
    counted.expect("there is such a table")
}

/// As if all that is stored were from before events had their times.
pub async fn forget_times(store: &Store) {
    run(store, "UPDATE event SET ts = NULL").await;
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
    let pools = match &store.core.database {
        Database::Sqlite(sqlite) => {
            let told = sqlite.tell_writer(statement).await;
            return told.expect("the statement is valid");
        }
        Database::Postgres(pools) => [&pools.writers, &pools.committers],
    };
    let mut connections = Vec::new();
    for pool in pools {
        for _ in 0..pool.options().get_max_connections() {
            let connection = pool.acquire().await;
            connections.push(connection.expect("a connection can be had"));
        }
    }
    for connection in &mut connections {
        let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(statement)));
        done.await.expect("the statement is valid");
    }
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
