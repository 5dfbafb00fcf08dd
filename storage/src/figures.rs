//! What this process and the database have to show of themselves, for metrics. What is looked at in the database is
//! bounded: of what waits no more is counted than [`MOST_COUNTED`].

use std::hash::Hash;
use std::sync::atomic::Ordering;

use crate::engine::cache::{Cache, CacheFigures};
use crate::engine::database::Database;
use crate::engine::sql::Columns as _;
use crate::{Pool, Pos, Result, Store};

/// So many of what waits are counted at most.
pub const MOST_COUNTED: u64 = 10_000;

/// How much waits in the database for whoever does it, each at most [`MOST_COUNTED`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queues {
    /// Events from other servers that wait for what they need.
    pub inbox: u64,
    /// Notifications that aren't handed over.
    pub pushes: u64,
    /// Messages that users' devices haven't fetched.
    pub to_device: u64,
    /// Events of users that are to be sent later.
    pub delayed: u64,
    /// Tasks of the operator's that wait or are under way.
    pub tasks: u64,
}

impl Store {
    /// How much waits. One statement.
    pub async fn queues(&self) -> Result<Queues> {
        let query = self
            .sql(
                "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM inbox LIMIT $1) AS a) AS inbox, \
                 (SELECT COUNT(*) FROM (SELECT 1 FROM push LIMIT $1) AS b) AS pushes, \
                 (SELECT COUNT(*) FROM (SELECT 1 FROM to_device LIMIT $1) AS c) AS to_device, \
                 (SELECT COUNT(*) FROM (SELECT 1 FROM delayed_event WHERE due_ms >= 0 LIMIT $1) AS d) \
                 AS delayed, \
                 (SELECT COUNT(*) FROM (SELECT 1 FROM task WHERE state = 0 LIMIT $1) AS e) AS tasks",
            )
            .bind(usize::try_from(MOST_COUNTED).unwrap_or(usize::MAX));
        let Some(row) = self.row(query).await? else {
            return Ok(Queues::default());
        };
        Ok(Queues {
            inbox: row.get("inbox")?,
            pushes: row.get("pushes")?,
            to_device: row.get("to_device")?,
            delayed: row.get("delayed")?,
            tasks: row.get("tasks")?,
        })
    }

    /// The readers of the log in this process, by name, and up to where each has read.
    pub fn reader_progress(&self) -> Vec<(String, Pos)> {
        self.core.readers.now()
    }

    /// Whether what was to be written last could be.
    pub fn is_writable(&self) -> bool {
        !self.core.unwritable.load(Ordering::Relaxed)
    }

    /// What is remembered of the database.
    pub fn cache_figures(&self) -> Vec<(&'static str, CacheFigures)> {
        fn of<K: Hash + Eq + Clone, V: Clone>(cache: &Cache<K, V>) -> CacheFigures {
            cache.figures()
        }
        let caches = &self.core.caches;
        vec![
            ("events", of(&caches.events)),
            ("event ids", of(&caches.event_ids)),
            ("rooms", of(&caches.rooms)),
            ("room ids", of(&caches.room_ids)),
            ("users", of(&caches.users)),
            ("servers", of(&caches.servers)),
            ("state keys", of(&caches.keys)),
            ("snapshots", of(&caches.snapshots)),
            ("memberships", of(&caches.memberships)),
            ("joined servers", of(&caches.joined_servers)),
            ("auth events", of(&caches.auth)),
            ("room summaries", of(&caches.summaries)),
            ("one-time key counts", of(&caches.key_counts)),
            ("push settings", of(&caches.notifying)),
        ]
    }

    /// The ways to the database.
    pub fn pools(&self) -> Vec<Pool> {
        match &self.core.database {
            Database::Sqlite(sqlite) => sqlite.pools().into(),
            Database::Postgres(pools) => pools.pools().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::each_database;

    #[tokio::test]
    async fn what_waits_is_counted_by_one_statement() {
        each_database(|store| async move {
            assert_eq!(store.queues().await.unwrap(), super::Queues::default());
            store.add_task("test", "one").await.unwrap();
            store.add_task("test", "two").await.unwrap();
            let before = store.counters().now();
            assert_eq!(store.queues().await.unwrap().tasks, 2);
            assert_eq!((store.counters().now() - before).queries, 1);
        })
        .await;
    }

    #[tokio::test]
    async fn a_cache_tells_what_it_has_found() {
        each_database(|store| async move {
            let room = ruma::RoomId::parse("!a:x").unwrap();
            let of_rooms = || {
                let all = store.cache_figures();
                let (_, figures) = all
                    .into_iter()
                    .find(|(name, _)| *name == "room ids")
                    .unwrap();
                figures
            };
            let before = of_rooms();
            store.room_no(&room).await.unwrap();
            let missed = of_rooms();
            assert!(missed.misses > before.misses, "{missed:?}");
            assert_eq!(missed.entries, before.entries + 1);
            store.room_no(&room).await.unwrap();
            assert!(of_rooms().hits > missed.hits, "{missed:?}");
        })
        .await;
    }

    #[tokio::test]
    async fn what_the_database_refuses_is_counted() {
        each_database(|store| async move {
            let before = store.counters().now();
            assert!(store.is_writable());
            assert!(store.pools().iter().any(|pool| pool.most > 0));
            let wrong = store.sql("SELECT no FROM nothing_of_this_name");
            assert!(store.row(wrong).await.is_err());
            assert_eq!((store.counters().now() - before).errors, 1);
        })
        .await;
    }
}
