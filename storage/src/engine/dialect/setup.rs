//! What connections are told first.

use super::Dialect;

impl Dialect {
    /// What each new connection is told. `memory`: how many bytes the process is to take.
    pub(crate) fn setup(self, durable: bool, memory: usize) -> String {
        match self {
            Self::Sqlite => format!(
                "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = {}; \
                 PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -{}; \
                 PRAGMA mmap_size = {memory}; PRAGMA wal_autocheckpoint = 2000;",
                if durable { "FULL" } else { "OFF" },
                kibibytes(memory / 128),
            ),
            Self::Postgres => format!(
                "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '15s'; \
                 SET statement_timeout = '120s'; SET synchronous_commit = {}; \
                 SET client_min_messages = warning; SET jit = off;",
                if durable { "on" } else { "off" }
            ),
        }
    }

    /// What SQLite's connection that writes is told besides: it finds less in what is mapped.
    pub(crate) fn setup_writing(memory: usize) -> String {
        format!("PRAGMA cache_size = -{};", kibibytes(memory / 32))
    }

    /// What the connection of the commit queue is told besides. All that it asks for goes by keys: PostgreSQL guesses
    /// that a bound list has ten rows, and might read a whole table, or a whole index, for the one that it has. And
    /// it asks the same again and again, so a plan is made once.
    /// And as it locks what all others wait for (rooms, the counter), a process that stands still in the middle of a commit
    /// loses it soon: a turn takes at most a second.
    pub(crate) fn setup_commits(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => {
                "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
                 SET plan_cache_mode = force_generic_plan; \
                 SET idle_in_transaction_session_timeout = '3s';"
            }
        }
    }

    /// What a connection is told that changes the schema, which takes long where there is much, and room for sorting: in
    /// memory SQLite would take as much of it as there is to sort.
    pub(crate) fn unhurried(self) -> &'static str {
        match self {
            Self::Sqlite => "PRAGMA temp_store = FILE; PRAGMA cache_size = -65536;",
            Self::Postgres => "SET statement_timeout = 0; SET lock_timeout = 0;",
        }
    }
}

/// For SQLite's pages; fewer than a few no statement can do with.
fn kibibytes(bytes: usize) -> usize {
    (bytes / 1_024).max(64)
}
