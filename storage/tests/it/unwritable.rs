//! A disk that is full, a database that takes no writes: nothing ends but the attempt.

use rhizome_storage::testing::{
    TestDatabase, cut_connections, each_database, fill, soon, take_writes,
};
use rhizome_storage::{AccountData, CommitError, DataChange, Error, Fact, Store, WriteSet};

use crate::factory::{Room, user};

async fn note(store: &Store, room: &Room, n: usize, bytes: usize) -> Result<(), CommitError> {
    let alice = store.user_no(&room.alice).await?;
    let fact = Fact::AccountData(DataChange {
        data: AccountData {
            user: alice,
            room: Some(room.no),
            kind: format!("note.{n}"),
            content: format!("\"{}\"", "x".repeat(bytes)).into(),
        },
        expect: None,
    });
    let set = WriteSet::from(vec![fact]);
    store.commit(set).await.map(drop)
}

fn is_busy<T: std::fmt::Debug>(answer: &Result<T, CommitError>) -> bool {
    matches!(answer, Err(CommitError::Store(Error::Busy(_))))
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_busy_and_comes_back() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        note(&store, &room, 0, 10).await.unwrap();
        take_writes(&store, false).await;
        for n in 1..4 {
            let refused = note(&store, &room, n, 10).await;
            assert!(is_busy(&refused), "{refused:?}");
        }
        // Statements outside of the queue, too.
        let refused = store.user_no(&user("nobody-yet")).await;
        assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
        // What is there is read meanwhile.
        let alice = store.user_no(&room.alice).await.unwrap();
        let there = |n: usize| {
            let store = store.clone();
            async move {
                let kind = format!("note.{n}");
                let data = store.account_data(alice, Some(room.no), &kind).await;
                data.unwrap().is_some()
            }
        };
        assert!(there(0).await && !there(1).await);
        take_writes(&store, true).await;
        note(&store, &room, 4, 10).await.unwrap();
        assert!(there(4).await && !there(3).await);
        // The log has no hole where nothing was written.
        let head = store.log().head();
        let fresh = Store::open(store.options().clone()).await.unwrap();
        assert_eq!(fresh.log().head(), head);
        fresh.close().await;
    })
    .await;
}

/// On a full disk SQLite may undo the transaction by itself, or leave that to us.
#[tokio::test]
async fn a_full_disk_costs_what_does_not_fit() {
    let database = TestDatabase::sqlite();
    let store = database.open().await;
    let room = Room::new(&store, "r").await;
    for round in 0..3 {
        fill(&store, true).await;
        let mut refused = 0;
        for n in 0..40 {
            let answer = note(&store, &room, round * 100 + n, 20_000).await;
            if answer.is_err() {
                assert!(is_busy(&answer), "{answer:?}");
                refused += 1;
            }
        }
        assert!(refused > 0, "the disk was to be full");
        fill(&store, false).await;
        let again = note(&store, &room, round * 100 + 99, 20_000);
        soon("an answer", again).await.unwrap();
    }
    store.close().await;
}

/// Whoever comes across the first of them has bad luck; nobody has who comes after.
#[tokio::test]
async fn connections_that_died_are_made_anew_at_once() {
    let database = TestDatabase::postgres().await;
    let store = database.open().await;
    let room = Room::new(&store, "r").await;
    cut_connections(&store).await;
    let mut failed = 0;
    for _ in 0..10 {
        if let Err(error) = store.log().refresh().await {
            assert!(matches!(error, Error::Busy(_)), "{error}");
            failed += 1;
        }
    }
    assert!(failed <= 1, "{failed} requests failed");
    note(&store, &room, 0, 10).await.unwrap();
    store.user_no(&user("nobody-yet")).await.unwrap();
    store.close().await;
    database.remove().await;
}
