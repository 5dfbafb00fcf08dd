//! Grouping and refusals.

use std::sync::Arc;

use futures_util::future::poll_immediate;
use rhizome_storage::testing::{each_database, soon};
use rhizome_storage::{
    CommitError, DeviceList, Direction, Fact, HistoryToken, NewEvent, Placement, Pos, RoomWrite,
    Status, TxnKey, WriteSet,
};
use ruma::{OwnedDeviceId, user_id};
use serde_json::json;

use crate::factory::{Event, Room};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_transactions() {
    each_database(|store| async move {
        let room = Arc::new(Room::new(&store, "r").await);
        room.send("warm").await;
        store.next_event_nos(2_000).await.unwrap();
        let before = store.counters().now();
        let mut tasks = Vec::new();
        for writer in 0..32 {
            let room = room.clone();
            tasks.push(tokio::spawn(async move {
                for n in 0..10 {
                    room.send(&format!("{writer} {n}")).await;
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let done = store.counters().now() - before;
        assert_eq!(done.write_sets, 320);
        assert!(done.transactions < 100, "{done:?}");
        assert_eq!(done.event_reads, 0, "{done:?}");
        let all = store
            .history(
                room.no,
                HistoryToken::END,
                Direction::Backward,
                1_000,
                store.log().head(),
            )
            .await
            .unwrap();
        assert_eq!(all.len(), 323);
    })
    .await;
}

#[tokio::test]
async fn a_warm_message_is_one_transaction_without_reads_before() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        room.send("warm").await;
        let before = store.counters().now();
        room.send("hot").await;
        let done = store.counters().now() - before;
        assert_eq!((done.transactions, done.groups), (1, 1));
        // Lock and read the room, look up; counter, event, room, which PostgreSQL takes as one.
        let queries = if store.is_shared() { 3 } else { 5 };
        assert_eq!(done.queries, queries, "{done:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_changes_decided_on_one_state_one_is_refused() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let mut writes = Vec::new();
        for name in ["one", "two"] {
            let topic = json!({"topic": name});
            let pdu = room
                .event(&room.alice, "m.room.topic", Some(""), topic)
                .await;
            writes.push(room.state_write(pdu).await);
        }
        let second = writes.pop().unwrap();
        let first = writes.pop().unwrap();
        let (one, two) = tokio::join!(room.commit(first), room.commit(second));
        let refused = match (one, two) {
            (Ok(_), Err(error)) | (Err(error), Ok(_)) => error,
            other => panic!("{other:?}"),
        };
        assert!(
            matches!(refused, CommitError::StateMoved { now: 2, .. }),
            "{refused:?}"
        );
        assert_eq!(room.head().await.state_version, 2);
    })
    .await;
}

fn txn(user: rhizome_storage::UserNo, id: &str) -> TxnKey {
    TxnKey {
        user,
        device: OwnedDeviceId::from("PHONE"),
        path: "send/!r/m.room.message".to_owned(),
        txn_id: id.to_owned(),
    }
}

#[tokio::test]
async fn a_transaction_makes_one_event() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let alice = store.user_no(&room.alice).await.unwrap();
        let (one, two) = (room.message("1").await, room.message("2").await);
        let first = room.write_of(one.clone(), Some(txn(alice, "t"))).await;
        let second = room.write_of(two.clone(), Some(txn(alice, "t"))).await;
        let third = room.write_of(two, Some(txn(alice, "other"))).await;
        // At once, in one group, and later.
        let (one_answer, two_answer) =
            tokio::join!(room.commit(first), room.commit(second.clone()));
        one_answer.unwrap();
        for answer in [two_answer, room.commit(second).await] {
            let Err(CommitError::DuplicateTxn { event_id, key }) = answer else {
                panic!("{answer:?}")
            };
            assert_eq!(
                (event_id.as_str(), key),
                (one.event_id().as_str(), txn(alice, "t"))
            );
        }
        room.commit(third).await.unwrap();
        let made = store.transaction(&txn(alice, "t")).await.unwrap();
        assert_eq!(made.as_deref(), Some(one.event_id()));
        let event = store.event(one.event_id()).await.unwrap().unwrap();
        assert_eq!(event.txn.as_ref().unwrap().txn_id, "t");
    })
    .await;
}

#[tokio::test]
async fn what_follows_an_event_that_was_not_stored_is_refused() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let alice = store.user_no(&room.alice).await.unwrap();
        let done = room.message("done before").await;
        let done = room.write_of(done, Some(txn(alice, "t"))).await;
        room.commit(done).await.unwrap();

        // Three events decided one upon the other, ahead of the disk.
        let mut chain = Vec::new();
        for body in ["1", "2", "3"] {
            let mut event = Event {
                room: &room.id,
                sender: &room.alice,
                kind: "m.room.message",
                state_key: None,
                content: json!({"body": body}),
                prevs: vec![room.join.event_id().to_owned()],
                auth: vec![],
                depth: 3,
                redacts: None,
            };
            let follows = chain
                .last()
                .map(|pdu: &Arc<rhizome_protocol::Pdu>| pdu.event_id());
            event.prevs.extend(follows.map(ToOwned::to_owned));
            chain.push(event.build());
        }
        let set = async |at: usize, txn: Option<TxnKey>| {
            let mut write = room.write_of(chain[at].clone(), txn).await;
            write.follows = (at > 0).then(|| chain[at - 1].event_id().to_owned());
            WriteSet::from(write)
        };
        // The first is refused: so are the others, in its group or in a later one.
        let first = store
            .submit(set(0, Some(txn(alice, "t"))).await)
            .await
            .unwrap();
        let second = store.submit(set(1, None).await).await.unwrap();
        let refused = first.await.unwrap_err();
        assert!(
            matches!(refused, CommitError::DuplicateTxn { .. }),
            "{refused:?}"
        );
        let third = store.submit(set(2, None).await).await.unwrap();
        for orphan in [second, third] {
            let refused = orphan.await.unwrap_err();
            assert!(
                matches!(refused, CommitError::Orphaned(no) if no == room.no),
                "{refused:?}"
            );
        }
        // The first is stored: so are the others.
        let all = [
            store.submit(set(0, None).await).await.unwrap(),
            store.submit(set(1, None).await).await.unwrap(),
            store.submit(set(2, None).await).await.unwrap(),
        ];
        let mut last = Pos(0);
        for stored in all {
            let stored = stored.await.unwrap();
            assert!(stored.first > last, "in the order of their coming");
            last = stored.last;
        }
        let head = room.head().await;
        assert!(
            head.extremities
                .iter()
                .any(|end| end.event_id == *chain[2].event_id())
        );
        assert!(
            !head
                .extremities
                .iter()
                .any(|end| end.event_id == *chain[1].event_id())
        );
    })
    .await;
}

#[tokio::test]
async fn an_event_is_stored_once_and_an_outlier_can_be_placed() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let pdu = room.message("hello").await;
        let mut write = room.write_of(pdu.clone(), None).await;
        let no = write.events[0].no;
        let outlier = RoomWrite {
            room: room.no,
            events: vec![NewEvent::outlier(no, pdu.clone())],
            ..RoomWrite::default()
        };
        room.commit(outlier).await.unwrap();
        let stored = store.event(pdu.event_id()).await.unwrap().unwrap();
        assert_eq!((stored.placement, stored.order), (Placement::Outlier, None));
        // Another number: whoever asks must take the one that is there.
        let other = room.write_of(pdu.clone(), None).await;
        let refused = room.commit(other).await.unwrap_err();
        assert!(
            matches!(refused, CommitError::DuplicateEvent { no: known, done: false, .. } if known == no),
            "{refused:?}"
        );
        let committed = room.commit(write.clone()).await.unwrap();
        let stored = store.event(pdu.event_id()).await.unwrap().unwrap();
        assert_eq!((stored.placement, stored.pos()), (Placement::Live, Some(committed.last)));
        let refused = room.commit(write.clone()).await.unwrap_err();
        assert!(matches!(refused, CommitError::DuplicateEvent { done: true, .. }), "{refused:?}");
        // A rejection can be lifted.
        let pdu = room.message("again").await;
        write = room.write_of(pdu.clone(), None).await;
        let mut rejected = write.clone();
        rejected.events[0].status = Status::Rejected;
        rejected.events[0].reason = Some("no".to_owned());
        room.commit(rejected).await.unwrap();
        let stored = store.event(pdu.event_id()).await.unwrap().unwrap();
        assert_eq!((stored.status, stored.reason.as_deref()), (Status::Rejected, Some("no")));
        room.commit(write).await.unwrap();
        let stored = store.event(pdu.event_id()).await.unwrap().unwrap();
        assert_eq!((stored.status, stored.reason.as_deref()), (Status::Accepted, None));
    })
    .await;
}

#[tokio::test]
async fn one_bad_row_refuses_one_write_set() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let taken = store.event(room.create.event_id()).await.unwrap().unwrap();
        let mut tasks = Vec::new();
        for n in 0..9 {
            let pdu = room.message(&format!("m{n}")).await;
            let mut write = room.write_of(pdu, None).await;
            // The number of another event; only the database notices.
            let bad = n == 4;
            if bad {
                write.events[0].no = taken.no;
            }
            let room = room.clone();
            tasks.push((bad, tokio::spawn(async move { room.commit(write).await })));
        }
        for (bad, task) in tasks {
            let answer = task.await.unwrap();
            assert_eq!(answer.is_err(), bad, "{answer:?}");
        }
        let create = store.event(room.create.event_id()).await.unwrap().unwrap();
        assert_eq!(create.pdu.kind(), "m.room.create");
        assert!(room.head().await.extremities.len() >= 8);
    })
    .await;
}

#[tokio::test]
async fn a_write_set_over_rooms_stands_or_falls_whole() {
    each_database(|store| async move {
        let (one, two) = (
            Room::new(&store, "one").await,
            Room::new(&store, "two").await,
        );
        let (a, b) = (one.message("a").await, two.message("b").await);
        let mut second = two.write_of(b, None).await;
        second.expect = Some(99);
        let set = WriteSet {
            rooms: vec![one.write_of(a.clone(), None).await, second],
            ..WriteSet::default()
        };
        let refused = store.commit(set.clone()).await.unwrap_err();
        assert!(
            matches!(refused, CommitError::StateMoved { .. }),
            "{refused:?}"
        );
        assert!(store.event(a.event_id()).await.unwrap().is_none());
        let mut set = set;
        set.rooms[1].expect = Some(1);
        let done = store.commit(set).await.unwrap();
        assert_eq!(done.last.0 - done.first.0, 1);
    })
    .await;
}

/// What can wait goes with what others write, and with nothing else before somebody asks for it.
#[tokio::test]
async fn what_can_wait_costs_no_transaction_of_its_own() {
    each_database(|store| async move {
        let user = store.user_no(user_id!("@ada:here")).await.unwrap();
        let list = || WriteSet::from(vec![Fact::from(DeviceList { user, device: None })]);
        let before = store.counters().now();
        let mut waiting = store.submit_without_haste(list()).await.unwrap();
        let mut other = store.submit_without_haste(list()).await.unwrap();
        store.commit(list()).await.unwrap();
        soon("it is written", &mut waiting).await.unwrap();
        soon("it is written", &mut other).await.unwrap();
        assert_eq!((store.counters().now() - before).groups, 1);

        let mut waiting = store.submit_without_haste(list()).await.unwrap();
        // Whoever else is in the queue has had its turn.
        store.log().refresh().await.unwrap();
        tokio::task::yield_now().await;
        assert!(poll_immediate(&mut waiting).await.is_none());
        assert_eq!((store.counters().now() - before).groups, 1);
        store.hurry();
        soon("it is written", &mut waiting).await.unwrap();
        assert_eq!((store.counters().now() - before).groups, 2);

        // As many as a transaction takes don't wait for more.
        let mut many = Vec::new();
        for _ in 0..store.options().group_limit {
            many.push(store.submit_without_haste(list()).await.unwrap());
        }
        for waiting in many {
            soon("it is written", waiting).await.unwrap();
        }
        // Nor is anything left when the store closes.
        let mut waiting = store.submit_without_haste(list()).await.unwrap();
        store.close().await;
        soon("it is written", &mut waiting).await.unwrap();
    })
    .await;
}
