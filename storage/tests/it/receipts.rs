//! Receipts move forwards only, and a user has not more of them than there is a use for.

use futures_util::future::join_all;
use rhizome_storage::testing::{TestDatabase, each_database};
use rhizome_storage::{
    DeviceList, EntryKind, Fact, Options, Pos, Receipt, Store, UserNo, WriteSet,
};
use ruma::OwnedEventId;

use crate::factory::Room;

fn receipt(room: &Room, user: UserNo, thread: Option<&str>, event: &OwnedEventId) -> WriteSet {
    let fact = Fact::Receipt(Receipt {
        room: room.no,
        user,
        kind: "m.read".to_owned(),
        thread: thread.map(str::to_owned),
        event_id: event.clone(),
        ts: 5,
    });
    WriteSet::from(vec![fact])
}

/// How many receipts the log has told of.
fn moves(store: &Store, since: Pos) -> usize {
    let log = store.log();
    let entries = log.tail(since, log.head()).unwrap();
    let receipts = (entries.iter()).filter(|entry| matches!(entry.kind, EntryKind::Receipt(_)));
    receipts.count()
}

#[tokio::test]
async fn an_older_one_changes_nothing_in_whatever_order_they_come() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let alice = store.user_no(&room.alice).await.unwrap();
        let mut events = Vec::new();
        for n in 0..6 {
            events.push(room.send(&n.to_string()).await);
        }
        let since = store.log().head();
        // In one group: the newest comes first, and again.
        let order = [5, 0, 3, 5, 1, 4];
        let sets = order.map(|n| store.commit(receipt(&room, alice, None, &events[n])));
        assert!(join_all(sets).await.into_iter().all(|done| done.is_ok()));
        // One by one, and in a write set with something else.
        let mut set = receipt(&room, alice, None, &events[2]);
        set.facts.push(Fact::DeviceList(DeviceList {
            user: alice,
            device: None,
        }));
        let done = store.commit(set).await.unwrap();
        assert_eq!(done.first, done.last);
        store
            .commit(receipt(&room, alice, Some("main"), &events[2]))
            .await
            .unwrap();
        let stands = store.receipts_of(room.no, alice).await.unwrap();
        let stands: Vec<_> = stands.iter().map(|receipt| &receipt.event_id).collect();
        assert_eq!(stands, [&events[5], &events[2]]);
        assert_eq!(moves(&store, since), 2);
    })
    .await;
}

/// Two processes, each with a device of the same user that is behind or ahead.
#[tokio::test]
async fn of_two_processes_the_newer_stands() {
    let database = TestDatabase::postgres().await;
    let here = database.open().await;
    let room = Room::new(&here, "r").await;
    let there = Store::open(Options {
        ..database.options()
    })
    .await
    .unwrap();
    let alice = here.user_no(&room.alice).await.unwrap();
    for round in 0..20 {
        let old = room.send(&format!("old {round}")).await;
        let new = room.send(&format!("new {round}")).await;
        let (one, two) = tokio::join!(
            here.commit(receipt(&room, alice, None, &new)),
            there.commit(receipt(&room, alice, None, &old)),
        );
        one.unwrap();
        two.unwrap();
        let stands = here.receipts_of(room.no, alice).await.unwrap();
        assert_eq!(stands[0].event_id, new, "round {round}");
    }
    here.close().await;
    there.close().await;
    database.remove().await;
}

#[tokio::test]
async fn threads_that_were_read_last_are_kept() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let alice = store.user_no(&room.alice).await.unwrap();
        let bob = store
            .user_no(ruma::user_id!("@bob:there.example"))
            .await
            .unwrap();
        let event = room.send("x").await;
        for user in [alice, bob] {
            for thread in [None, Some("main")] {
                store
                    .commit(receipt(&room, user, thread, &event))
                    .await
                    .unwrap();
            }
        }
        let facts = |from: usize| {
            let threads = (from..from + 90).map(|n| format!("$t{n}"));
            let sets = threads.map(|thread| receipt(&room, alice, Some(&thread), &event));
            WriteSet {
                facts: sets.flat_map(|set| set.facts).collect(),
                ..WriteSet::default()
            }
        };
        for from in [0, 90] {
            store.commit(facts(from)).await.unwrap();
        }
        let kept = store.receipts_of(room.no, alice).await.unwrap();
        let threads: Vec<_> = kept.iter().map(|kept| kept.thread.as_deref()).collect();
        // What is in no thread stays, whatever is read.
        assert_eq!(threads[..2], [None, Some("main")]);
        assert_eq!((threads.len(), threads[2]), (102, Some("$t80")));
        assert_eq!(store.receipts_of(room.no, bob).await.unwrap().len(), 2);
    })
    .await;
}
