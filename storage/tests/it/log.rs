//! The log has no gaps, the tail is bounded, and wake-ups go to whom they concern.

use std::time::Duration;

use futures_util::FutureExt as _;
use rhizome_protocol::Membership;
use rhizome_storage::testing::{TestDatabase, each_database, soon};
use rhizome_storage::{
    AccountData, DataChange, EntryKind, Fact, LiveEvent, Options, Pos, Receipt, StateChanged,
    Store, WriteSet,
};

use crate::factory::{Room, user};

/// Reads on as the head moves, and checks that nothing is left out or comes twice.
async fn follow(store: Store, upto: Pos) -> Vec<String> {
    let log = store.log();
    let mut heads = log.subscribe();
    let mut at = Pos(0);
    let mut seen = Vec::new();
    while at < upto {
        let head = log.head();
        loop {
            let page = log.read(at, head, 7).await.unwrap();
            for entry in &page {
                assert_eq!(entry.pos.0, at.0 + 1, "a gap after {at}");
                at = entry.pos;
                if let EntryKind::Event(LiveEvent { event, .. }) = &entry.kind {
                    seen.push(event.pdu.event_id().to_string());
                }
            }
            if page.len() < 7 {
                break;
            }
        }
        assert_eq!(at, head, "everything up to the head can be read");
        if at < upto {
            soon("the head moves", heads.changed()).await.unwrap();
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_everything_in_one_order() {
    for database in TestDatabase::both().await {
        // A short tail, so that slow readers need the database as well.
        let store = Store::open(Options {
            tail_entries: 16,
            ..database.options()
        })
        .await
        .unwrap();
        let rooms = [Room::new(&store, "a").await, Room::new(&store, "b").await];
        let upto = Pos(store.log().head().0 + 8 * 10);
        let mut readers = Vec::new();
        for _ in 0..3 {
            readers.push(tokio::spawn(follow(store.clone(), upto)));
        }
        let mut writers = Vec::new();
        for writer in 0..8 {
            let room = rooms[writer % 2].clone();
            writers.push(tokio::spawn(async move {
                for n in 0..10 {
                    let id = room.send(&format!("{writer} {n}")).await;
                    // Our own commits are in the tail before they are answered.
                    let event = room.store.event(&id).await.unwrap().unwrap();
                    assert!(event.pos().unwrap() <= room.store.log().head());
                }
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
        let mut orders = Vec::new();
        for reader in readers {
            orders.push(reader.await.unwrap());
        }
        assert_eq!(orders[0].len(), 84);
        assert!(orders.iter().all(|order| *order == orders[0]));
        let behind = store.log().tail(Pos(0), upto);
        assert!(behind.is_none(), "the tail holds more than it may");
        store.close().await;
        database.remove().await;
    }
}

#[tokio::test]
async fn only_those_concerned_are_woken() {
    each_database(|store| async move {
        let (one, two) = (
            Room::new(&store, "one").await,
            Room::new(&store, "two").await,
        );
        for room in [&one, &two] {
            room.member(&user("carol"), "join").await;
        }
        let listener = async |name: &str| {
            let no = store.user_no(&user(name)).await.unwrap();
            let interest = store.log().interest(no);
            interest.listen().await.unwrap();
            (no, interest)
        };
        one.member(&user("dora"), "join").await;
        let ((_, in_one), (_, in_both), (bob, as_bob)) = (
            listener("dora").await,
            listener("carol").await,
            listener("bob").await,
        );
        let before = store.counters().now();
        one.send("hello").await;
        in_one.changed().await;
        in_both.changed().await;
        assert_eq!((store.counters().now() - before).wake_ups, 2);
        let data = Fact::AccountData(DataChange {
            data: AccountData {
                user: bob,
                room: Some(one.no),
                kind: "m.tag".to_owned(),
                content: "{}".into(),
            },
            expect: None,
        });
        store.commit(WriteSet::from(vec![data])).await.unwrap();
        as_bob.changed().await;
        assert_eq!((store.counters().now() - before).wake_ups, 3);
        // A connection that is there all the time hears of what its user comes into, and leaves.
        two.member(&user("bob"), "join").await;
        as_bob.changed().await;
        in_both.changed().await;
        assert_eq!((store.counters().now() - before).wake_ups, 5);
        two.send("hello").await;
        as_bob.changed().await;
        in_both.changed().await;
        assert_eq!((store.counters().now() - before).wake_ups, 7);
        one.member(&user("carol"), "leave").await;
        in_one.changed().await;
        in_both.changed().await;
        assert_eq!((store.counters().now() - before).wake_ups, 9);
        store.set_typing(one.no, &one.alice, Some(Duration::from_secs(5)));
        in_one.changed().await;
        assert_eq!((store.counters().now() - before).wake_ups, 10);
        // Nobody is woken twice for the same, and a waiter that is gone costs nothing.
        assert!(in_both.changed().now_or_never().is_none());
        drop((in_one, in_both, as_bob));
        one.send("nobody hears").await;
        assert_eq!((store.counters().now() - before).wake_ups, 10);
    })
    .await;
}

/// However connections, members and messages come and go beside each other, nobody who waits sleeps over
/// what concerns them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sleeps_over_what_concerns_them() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let names: Vec<_> = (0..4).map(|n| format!("u{n}")).collect();
        let mut heard = Vec::new();
        let mut tasks = Vec::new();
        for name in &names {
            let no = store.user_no(&user(name)).await.unwrap();
            let (at, hears) = tokio::sync::watch::channel(Pos(0));
            heard.push(hears);
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                // A poll after the other; now and then a new connection.
                for turn in 0.. {
                    let interest = store.log().interest(no);
                    for _ in 0..=turn % 3 {
                        interest.listen().await.unwrap();
                        at.send_replace(store.log().head());
                        interest.changed().await;
                    }
                }
            }));
        }
        for round in 0..60 {
            let name = &names[round % names.len()];
            let membership = if round / names.len() % 2 == 0 {
                "join"
            } else {
                "leave"
            };
            room.member(&user(name), membership).await;
            room.send("hello").await;
            let head = store.log().head();
            for (index, hears) in heard.iter_mut().enumerate() {
                let no = store.user_no(&user(&names[index])).await.unwrap();
                let rows = store.memberships_of(no).await.unwrap();
                if rows.iter().any(|row| row.membership == Membership::Join) {
                    let reached = soon("it is woken", hears.wait_for(|at| *at >= head)).await;
                    drop(reached.unwrap());
                }
            }
        }
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    })
    .await;
}

#[tokio::test]
async fn a_new_epoch_is_kept() {
    each_database(|store| async move {
        let first = store.epoch();
        let second = store.renew_epoch().await.unwrap();
        assert_ne!(first, second);
        let fresh = Store::open(store.options().clone()).await.unwrap();
        assert_eq!((fresh.epoch(), store.epoch()), (second.clone(), second));
    })
    .await;
}

/// What is read of many rooms at once is what each of them has.
#[tokio::test]
async fn many_rooms_are_read_like_each_of_them() {
    each_database(|store| async move {
        let rooms = [
            Room::new(&store, "a").await,
            Room::new(&store, "b").await,
            Room::new(&store, "c").await,
        ];
        let alice = store.user_no(&rooms[0].alice).await.unwrap();
        for turn in 0..6 {
            for (index, room) in rooms.iter().enumerate().take(2) {
                let event_id = room.send(&format!("{turn}")).await;
                let receipt = Fact::Receipt(Receipt {
                    room: room.no,
                    user: alice,
                    kind: "m.read".to_owned(),
                    thread: (index == 0).then(|| format!("$thread{turn}")),
                    event_id,
                    ts: turn,
                });
                let set = WriteSet::from(vec![receipt]);
                store.commit(set).await.unwrap();
            }
        }
        let upto = Pos(store.log().head().0 - 3);
        let nos: Vec<_> = rooms.iter().map(|room| room.no).collect();
        let (mut events, mut receipts) = (Vec::new(), Vec::new());
        for no in &nos {
            events.extend(store.room_timeline(*no, Pos(0), upto, 4).await.unwrap());
            receipts.extend(
                store
                    .receipts_in_rooms_after(&[*no], Pos(0), upto)
                    .await
                    .unwrap(),
            );
        }
        let ids = |events: &[std::sync::Arc<rhizome_storage::StoredEvent>]| -> Vec<_> {
            let ids = events.iter().map(|event| event.pdu.event_id().to_owned());
            ids.collect()
        };
        let together = store.room_timelines(&nos, upto, 4).await.unwrap();
        assert_eq!(ids(&together), ids(&events));
        assert_eq!(events.len(), 4 + 4 + 2);
        receipts.sort_by_key(|receipt| receipt.pos);
        let of_all = store.receipts_in_rooms_after(&nos, Pos(0), upto);
        assert_eq!(of_all.await.unwrap(), receipts);
        assert!(receipts.len() > 4);
    })
    .await;
}

/// The changes of one room's state, found without looking at the others' entries, are those that the
/// log has; also when the tail has dropped some.
#[tokio::test]
async fn the_tail_knows_where_each_rooms_state_changed() {
    for database in TestDatabase::both().await {
        let store = Store::open(Options {
            tail_entries: 12,
            ..database.options()
        })
        .await
        .unwrap();
        let rooms = [Room::new(&store, "a").await, Room::new(&store, "b").await];
        for turn in 0..12 {
            let room = &rooms[turn % 2];
            room.member(&user(&format!("u{turn}")), "join").await;
            room.send("between").await;
        }
        let log = store.log();
        let head = log.head();
        for after in 0..head.0 {
            for room in &rooms {
                let Some(changes) = log.state_changes(room.no, Pos(after), Pos(head.0 - 2)) else {
                    assert!(log.tail(Pos(after), head).is_none(), "as far as the tail");
                    continue;
                };
                let all = log.tail(Pos(after), Pos(head.0 - 2)).unwrap();
                let expected: Vec<Pos> = all
                    .iter()
                    .filter(|entry| {
                        matches!(entry.kind, EntryKind::State(StateChanged { room: of, .. }) if of == room.no)
                    })
                    .map(|entry| entry.pos)
                    .collect();
                let found: Vec<Pos> = changes.iter().map(|entry| entry.pos).collect();
                assert_eq!(found, expected);
            }
        }
        assert!(log.state_changes(rooms[0].no, Pos(0), head).is_none());
        store.close().await;
        database.remove().await;
    }
}
