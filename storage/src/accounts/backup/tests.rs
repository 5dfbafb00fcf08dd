//! Backups on both databases: versions, what a backup keeps, many at once, and that all of it goes.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use ruma::UserId;

use super::*;
use crate::NewAccount;
use crate::testing::{TestDatabase, each_database, eventually};

async fn user(store: &Store, name: &str) -> UserNo {
    let id = UserId::parse(format!("@{name}:here")).unwrap();
    let made = store.create_account(&id, NewAccount::default(), None).await;
    made.unwrap().unwrap()
}

async fn begin(store: &Store, user: UserNo) -> i64 {
    store.create_backup(user, "a", "{}").await.unwrap()
}

fn session<'a>(room_id: &'a str, session_id: &'a str, data: &'a str) -> BackupSession<'a> {
    BackupSession {
        room_id,
        session_id,
        first_message_index: 0,
        forwarded_count: 0,
        is_verified: false,
        session_data: data,
    }
}

/// All that a backup holds, read page by page.
async fn all(store: &Store, user: UserNo, version: i64, room: Option<&str>) -> Vec<StoredSession> {
    let backup = store.backup(user, Some(version)).await.unwrap().unwrap();
    let mut all: Vec<StoredSession> = Vec::new();
    loop {
        let page = store.backup_page(&backup, room, all.last()).await.unwrap();
        all.extend(page.sessions);
        if !page.more {
            return all;
        }
    }
}

async fn stored(store: &Store) -> i64 {
    let query = store.sql("SELECT COUNT(*) AS n FROM backup_session");
    store.row(query).await.unwrap().unwrap().get("n").unwrap()
}

#[tokio::test]
async fn versions_are_counted_and_the_newest_that_is_left_is_current() {
    each_database(async |store| {
        let (ada, bob) = (user(&store, "ada").await, user(&store, "bob").await);
        let current = async || {
            let current = store.backup(ada, None).await.unwrap();
            current.map(|backup| backup.version)
        };
        assert_eq!(current().await, None);
        let absent = store.delete_backup(ada, 1).await;
        assert!(matches!(absent, Err(BackupError::Absent)));
        for version in 1..=4 {
            assert_eq!(begin(&store, ada).await, version);
            assert_eq!(current().await, Some(version));
        }
        let old = store.put_backup_sessions(ada, 3, vec![]).await;
        assert!(matches!(old, Err(BackupError::Old { current: 4 })));
        for version in [4, 4, 3, 2] {
            store.delete_backup(ada, version).await.unwrap();
            let gone = store.put_backup_sessions(ada, version, vec![]).await;
            assert!(matches!(gone, Err(BackupError::Absent)));
        }
        assert_eq!(current().await, Some(1));
        store.put_backup_sessions(ada, 1, vec![]).await.unwrap();
        for version in [0, -1, 5, i64::MAX, i64::MIN] {
            let absent = store.delete_backup(ada, version).await;
            assert!(matches!(absent, Err(BackupError::Absent)), "{version}");
        }
        store.delete_backup(ada, 1).await.unwrap();
        assert_eq!(begin(&store, ada).await, 5, "no version comes twice");
        store.delete_backup(ada, 2).await.unwrap();
        let rows = store.sql("SELECT version FROM backup");
        assert_eq!(store.rows(rows).await.unwrap().len(), 1, "nothing piles up");
        assert_eq!(store.backup(bob, Some(5)).await.unwrap(), None);
        assert_eq!(begin(&store, bob).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_backup_keeps_its_algorithm_and_accounts_a_number_of_backups() {
    each_database(async |store| {
        let ada = user(&store, "ada").await;
        begin(&store, ada).await;
        store.update_backup(ada, 1, "a", "{\"b\":1}").await.unwrap();
        let other = store.update_backup(ada, 1, "b", "{}").await;
        assert!(matches!(other, Err(BackupError::OtherAlgorithm)));
        let absent = store.update_backup(ada, 2, "a", "{}").await;
        assert!(matches!(absent, Err(BackupError::Absent)));
        let backup = store.backup(ada, None).await.unwrap().unwrap();
        assert_eq!(backup.auth_data, "{\"b\":1}");
        for _ in 1..MOST_BACKUPS {
            begin(&store, ada).await;
        }
        let more = store.create_backup(ada, "a", "{}").await;
        assert!(matches!(more, Err(BackupError::TooMany)));
        store.delete_backup(ada, 1).await.unwrap();
        begin(&store, ada).await;
    })
    .await;
}

#[tokio::test]
async fn backups_of_an_account_hold_so_much_and_no_more() {
    each_database(async |store| {
        let ada = user(&store, "ada").await;
        begin(&store, ada).await;
        begin(&store, ada).await;
        let almost = store
            .sql("UPDATE backup SET bytes = $1 WHERE version = 1")
            .bind(MOST_BACKUP_BYTES - 10 - "!r:xs".len() - ROW_BYTES);
        store.execute(almost).await.unwrap();
        let put = async |session_data: &'static str| {
            let sessions = vec![session("!r:x", "s", session_data)];
            store.put_backup_sessions(ada, 2, sessions).await
        };
        assert!(matches!(put("{\"aaaa\":11}").await, Err(BackupError::Full)));
        assert_eq!(all(&store, ada, 2, None).await, [], "nothing of it stays");
        assert_eq!(put("{\"aaa\":11}").await.unwrap().count, 1);
    })
    .await;
}

/// What happens to a backup; rooms and sessions by number.
#[derive(Debug, Clone)]
enum Step {
    Put(Vec<(u8, u8, i64, i64, bool)>),
    Delete(u8, u8),
    DeleteRoom(u8),
    Empty,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let put = vec((0..3_u8, 0..4_u8, 0..3_i64, 0..3_i64, any::<bool>()), 0..12);
    let step = prop_oneof![
        8 => put.prop_map(Step::Put),
        1 => (0..3_u8, 0..4_u8).prop_map(|(room, session)| Step::Delete(room, session)),
        1 => (0..3_u8).prop_map(Step::DeleteRoom),
        1 => Just(Step::Empty),
    ];
    vec(step, 1..10)
}

/// As the specification says it, for one key that comes after another.
fn keeps_the_old(old: &StoredSession, new: &StoredSession) -> bool {
    if old.is_verified != new.is_verified {
        return old.is_verified;
    }
    if old.first_message_index != new.first_message_index {
        return old.first_message_index < new.first_message_index;
    }
    old.forwarded_count <= new.forwarded_count
}

type Model = BTreeMap<(String, String), StoredSession>;

/// Does it, and to the model one by one.
async fn take(
    store: &Store,
    user: UserNo,
    step: &Step,
    at: usize,
    model: &mut Model,
) -> BackupState {
    let room = |room: u8| format!("!{room}:x");
    let done = match step {
        Step::Put(sessions) => {
            let made = sessions.iter().enumerate().map(|(n, one)| StoredSession {
                room_id: room(one.0),
                session_id: format!("\u{0}{}", one.1),
                first_message_index: one.2,
                forwarded_count: one.3,
                is_verified: one.4,
                session_data: format!("{{\"{}\":{n}}}", "é".repeat(at)),
            });
            let made: Vec<StoredSession> = made.collect();
            for new in &made {
                let names = (new.room_id.clone(), new.session_id.clone());
                if !model.get(&names).is_some_and(|old| keeps_the_old(old, new)) {
                    model.insert(names, new.clone());
                }
            }
            let sessions = made.iter().map(|one| BackupSession {
                room_id: &one.room_id,
                session_id: &one.session_id,
                first_message_index: one.first_message_index,
                forwarded_count: one.forwarded_count,
                is_verified: one.is_verified,
                session_data: &one.session_data,
            });
            store.put_backup_sessions(user, 1, sessions.collect()).await
        }
        Step::Delete(of, session) => {
            let (of, session) = (room(*of), format!("\u{0}{session}"));
            model.remove(&(of.clone(), session.clone()));
            store.delete_backup_session(user, 1, &of, &session).await
        }
        Step::DeleteRoom(of) => {
            model.retain(|(room_id, _), _| *room_id != room(*of));
            store.delete_backup_room(user, 1, &room(*of)).await
        }
        Step::Empty => {
            model.clear();
            store.empty_backup(user, 1).await
        }
    };
    done.unwrap()
}

#[tokio::test]
async fn a_backup_holds_what_one_key_after_the_other_would_leave() {
    each_database(async |store| {
        let mut runner = TestRunner::deterministic();
        for case in 0..40 {
            let story = steps().new_tree(&mut runner).unwrap().current();
            let ada = user(&store, &format!("ada{case}")).await;
            begin(&store, ada).await;
            let mut model = Model::new();
            let mut etag = 0;
            for (at, step) in story.iter().enumerate() {
                let before = model.clone();
                let told = take(&store, ada, step, at, &mut model).await;
                assert_eq!(told.count, model.len(), "{story:?}");
                assert_eq!(told.etag != etag, model != before, "{story:?}");
                etag = told.etag;
                let backup = store.backup(ada, None).await.unwrap().unwrap();
                assert_eq!(backup.holds, told);
                let left: Vec<_> = model.values().cloned().collect();
                assert_eq!(all(&store, ada, 1, None).await, left, "{story:?}");
            }
            let room = all(&store, ada, 1, Some("!0:x")).await;
            let wanted = model.values().filter(|one| one.room_id == "!0:x");
            assert!(room.iter().eq(wanted), "{story:?}");
            // As they are stored: not every database has all characters.
            let query = store
                .sql(
                    "SELECT MAX(b.bytes) AS told, CAST(SUM(octet_length(s.session_data) \
                     + octet_length(s.room_id) + octet_length(s.session_id)) AS BIGINT) AS bytes, \
                     COUNT(s.room_id) AS n FROM backup b \
                     LEFT JOIN backup_session s ON s.shelf = b.shelf WHERE b.user_no = $1",
                )
                .bind(ada);
            let row = store.row(query).await.unwrap().unwrap();
            let bytes = row.get::<Option<usize>>("bytes").unwrap().unwrap_or(0);
            let bytes = bytes + row.get::<usize>("n").unwrap() * ROW_BYTES;
            assert_eq!(row.get::<usize>("told").unwrap(), bytes, "{story:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_large_backup_comes_in_pieces_and_is_read_in_pages() {
    each_database(async |store| {
        let ada = user(&store, "ada").await;
        begin(&store, ada).await;
        let ids: Vec<String> = (0..1_700).map(|n| format!("s{n}")).collect();
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(40_000));
        let sessions = ids.iter().enumerate().map(|(n, id)| {
            let room = ["!a:x", "!b:x"][usize::from(n >= 600)];
            session(room, id, if n % 100 == 0 { &large } else { "{}" })
        });
        let told = store.put_backup_sessions(ada, 1, sessions.collect()).await;
        assert_eq!(told.unwrap().count, 1_700);
        assert_eq!(all(&store, ada, 1, None).await.len(), 1_700);
        assert_eq!(all(&store, ada, 1, Some("!b:x")).await.len(), 1_100);
        let told = store.delete_backup_room(ada, 1, "!b:x").await.unwrap();
        assert_eq!(told.count, 600);
        assert_eq!(all(&store, ada, 1, Some("!b:x")).await.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn devices_that_upload_at_once_lose_nothing() {
    for database in TestDatabase::both().await {
        let stores = [database.open().await, database.open().await];
        let ada = user(&stores[0], "ada").await;
        begin(&stores[0], ada).await;
        let mut running = tokio::task::JoinSet::new();
        for device in 0..6_usize {
            let store = stores[device % 2].clone();
            running.spawn(async move {
                for round in 0..5 {
                    let first = device * 20 + round * 7;
                    let ids: Vec<String> = (first..first + 30).map(|n| n.to_string()).collect();
                    let sessions = ids.iter().rev().map(|id| session("!r:x", id, "{}"));
                    let put = store.put_backup_sessions(ada, 1, sessions.collect());
                    put.await.unwrap();
                    if device == 0 && round == 2 {
                        store
                            .delete_backup_session(ada, 1, "!r:x", "5")
                            .await
                            .unwrap();
                    }
                }
            });
        }
        while let Some(done) = running.join_next().await {
            done.unwrap();
        }
        let backup = stores[1].backup(ada, None).await.unwrap().unwrap();
        let there = all(&stores[1], ada, 1, None).await;
        assert_eq!(backup.holds.count, there.len());
        assert_eq!(there.len(), 158 - 1);
        for store in stores {
            store.close().await;
        }
        database.remove().await;
    }
}

#[tokio::test]
async fn what_is_deleted_or_left_behind_goes_and_nothing_else() {
    each_database(async |store| {
        let [ada, bob, eve, dan] = [
            user(&store, "ada").await,
            user(&store, "bob").await,
            user(&store, "eve").await,
            user(&store, "dan").await,
        ];
        let ids: Vec<String> = (0..1_200).map(|n| n.to_string()).collect();
        for user in [ada, bob, eve, dan] {
            for _ in 0..2 {
                let version = begin(&store, user).await;
                let sessions = ids.iter().map(|id| session("!r:x", id, "{}")).collect();
                let put = store.put_backup_sessions(user, version, sessions);
                assert_eq!(put.await.unwrap().count, 1_200);
            }
        }
        let backup = store.backup(ada, Some(1)).await.unwrap().unwrap();
        assert!(store.has_backup(&backup).await.unwrap());
        let emptied = store.empty_backup(ada, 1).await.unwrap();
        assert_eq!((emptied.count, emptied.etag), (0, 2));
        assert_eq!(store.empty_backup(ada, 1).await.unwrap(), emptied);
        assert!(!store.has_backup(&backup).await.unwrap());
        assert_eq!(all(&store, ada, 1, None).await, []);
        store.delete_backup(bob, 2).await.unwrap();
        store.deactivate_account(eve, true).await.unwrap();
        store.deactivate_account(dan, false).await.unwrap();
        let begun = store.create_backup(eve, "a", "{}").await;
        assert!(matches!(begun, Err(BackupError::Absent)));
        assert_eq!(stored(&store).await, 9_600, "nobody has waited for it");
        // Two processes may do so at once.
        let purge = || store.purge_backups(Duration::ZERO);
        let (some, others) = tokio::join!(purge(), purge());
        assert_eq!(some.unwrap() + others.unwrap(), 7_200);
        assert_eq!(all(&store, ada, 2, None).await.len(), 1_200);
        assert_eq!(all(&store, bob, 1, None).await.len(), 1_200);
        assert_eq!(store.backup(eve, None).await.unwrap(), None);
        assert_eq!(store.backup(dan, None).await.unwrap(), None);
        let list = store.sql("SELECT shelf FROM backup_gone");
        assert!(store.rows(list).await.unwrap().is_empty());
        assert_eq!(store.purge_backups(Duration::ZERO).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn what_is_deleted_goes_soon() {
    each_database(async |store| {
        let stop = tokio_util::sync::CancellationToken::new();
        let how = crate::collect::Collecting {
            pause: Duration::ZERO,
            ..crate::collect::Collecting::default()
        };
        let running = tokio::spawn(crate::collect::run(store.clone(), how, stop.clone()));
        let ada = user(&store, "ada").await;
        let version = begin(&store, ada).await;
        let put = store.put_backup_sessions(ada, version, vec![session("!r:x", "s", "{}")]);
        put.await.unwrap();
        store.delete_backup(ada, version).await.unwrap();
        eventually("it goes", async || stored(&store).await == 0).await;
        stop.cancel();
        running.await.unwrap().unwrap();
    })
    .await;
}
