//! How many rows there are, and whether there may be so many.

use std::collections::BTreeMap;

use rhizome_storage::{
    Dialect, Store, Vacuum,
    collect::lifetimes::LIFETIMES,
    testing::{TestDatabase, count_rows},
};

/// By table.
pub type Counts = BTreeMap<&'static str, i64>;

/// What grows with what is said and done in rooms, which stays as long as they do (docs/growth.md). Every other table is
/// to have no more rows than half a year before.
const GROWS: [&str; 7] = [
    // A room's history.
    "event",
    "event_auth",
    // Each topic and each coming and going: sync tokens have no age.
    "state_change",
    // Those that an event has before or after itself are needed as long as that (storage/src/collect/mod.rs).
    "state_snapshot",
    // Reactions and edits: as long as their events.
    "relation",
    // What was said, as long as it isn't redacted.
    "search",
    "search_edit",
];

/// What the life of a step leaves for a while: else nothing is shown by its being gone.
const BUSY: [&str; 18] = [
    "client_filter",
    "client_transaction",
    "delayed_event",
    "inbound_txn",
    "log_time",
    "login_token",
    "one_time_key",
    "openid_token",
    "outbound",
    "receipt",
    "refresh_token",
    "revocation",
    "sliding_connection",
    "to_device",
    "to_device_out",
    "to_device_seen",
    "to_device_txn",
    "uia_session",
];

/// The months that are compared: the last, and those up to half a year before it.
const COMPARED: usize = 7;
/// What comes a moment later is the next month's.
const BESIDE: i64 = 2;

/// The rows of every table: a test sees to it that the list has all of them.
pub async fn of(store: &Store) -> Counts {
    let mut counts = Counts::new();
    for life in LIFETIMES {
        counts.insert(life.table, count_rows(store, life.table).await);
    }
    counts
}

/// What is to go is there.
pub async fn are_busy(store: &Store) {
    for table in BUSY {
        let rows = count_rows(store, table).await;
        assert!(rows > 0, "nothing is in {table}");
    }
}

/// The tables that have grown as they shouldn't, with their rows by month.
pub fn wrong(months: &[Counts]) -> Vec<String> {
    let mut wrong = Vec::new();
    for table in LIFETIMES.iter().map(|life| life.table) {
        let rows: Vec<i64> = months.iter().map(|counts| counts[table]).collect();
        let compared = &rows[rows.len() - COMPARED..];
        let (is_so, what) = if GROWS.contains(&table) {
            (is_straight(compared), "is no straight line")
        } else {
            (compared.last() <= compared.first(), "isn't flat")
        };
        if !is_so {
            wrong.push(format!("{table} {what}: {rows:?}"));
        }
    }
    wrong
}

/// Whether as much is added each month.
fn is_straight(rows: &[i64]) -> bool {
    let growth: Vec<i64> = rows.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let least = growth.iter().min().copied().unwrap_or_default();
    let most = growth.iter().max().copied().unwrap_or_default();
    least > 0 && most - least <= BESIDE
}

/// Prints how large the database is, also by message: of few that says little, as much is there without any.
pub async fn print_size(database: &TestDatabase, messages: usize) {
    let mut vacuum = Vacuum::open(database.url()).await.unwrap();
    vacuum.take_in_log().await.unwrap();
    if database.dialect() == Dialect::Postgres {
        for table in vacuum.tables().await.unwrap() {
            vacuum.tidy_table(&table).await.unwrap();
        }
    }
    let size = vacuum.size().await.unwrap();
    let each = (size.bytes - size.unused) / u64::try_from(messages).unwrap();
    println!(
        "{:?}: {} bytes, of which {} are unused; {each} for each of {messages} messages",
        database.dialect(),
        size.bytes,
        size.unused,
    );
    vacuum.close().await;
}
