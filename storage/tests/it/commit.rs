//! Grouping, refusals, and what the room's head and indexes say afterwards.

use std::sync::Arc;

use rhizome_protocol::Membership;
use rhizome_storage::testing::each_database;
use rhizome_storage::{
    CommitError, Direction, EntryKind, Fact, Forgotten, HistoryToken, LiveEvent, NewEvent, NewRoom,
    Placement, Pos, RoomWrite, StateChanged, Status, Store, TxnKey, WriteSet,
};
use ruma::{OwnedDeviceId, server_name};
use serde_json::json;

use crate::factory::{Event, Room};

#[tokio::test]
async fn a_new_room_is_there_as_a_whole() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let head = room.head().await;
        assert_eq!(head.state_version, 1);
        assert_eq!((head.joined, head.invited), (1, 0));
        assert_eq!(head.extremities.len(), 1);
        assert_eq!(head.extremities[0].event_id, room.join.event_id());
        let entries = store
            .log()
            .read(Pos(0), store.log().head(), 10)
            .await
            .unwrap();
        let kinds: Vec<_> = entries
            .iter()
            .map(|entry| match &entry.kind {
                EntryKind::Event(LiveEvent { event, .. }) => event.pdu.kind().to_owned(),
                EntryKind::State(StateChanged { member, .. }) => {
                    format!("state {}", member.is_some())
                }
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(
            kinds,
            [
                "m.room.create",
                "state false",
                "m.room.member",
                "state true"
            ]
        );
        let alice = store.user_no(&room.alice).await.unwrap();
        let rows = store.memberships_of(alice).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].membership, rows[0].since),
            (Membership::Join, Pos(4))
        );
        assert_eq!(
            *store.joined_servers(room.no).await.unwrap(),
            ["here.example"]
        );
        let chain = store
            .auth_chain(&[room.join.event_id().to_owned()])
            .await
            .unwrap();
        assert_eq!(chain, [room.create.event_id().to_owned()]);
        // And again what another process would see.
        let other = Store::open(store.options().clone()).await.unwrap();
        let read = other.room(&room.id).await.unwrap().unwrap();
        assert_eq!(read.extremities, head.extremities);
        assert_eq!((read.state_version, read.joined), (1, 1));
        let again = other
            .log()
            .read(Pos(0), other.log().head(), 10)
            .await
            .unwrap();
        assert_eq!(again.len(), 4);
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_room_is_created_once() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        for no in [room.no, store.next_room_no().await.unwrap()] {
            let write = RoomWrite {
                room: no,
                create: Some(NewRoom {
                    room_id: room.id.clone(),
                    rules: crate::factory::rules(),
                }),
                ..RoomWrite::default()
            };
            let refused = room.commit(write).await.unwrap_err();
            assert!(
                matches!(refused, CommitError::RoomExists(no) if no == room.no),
                "{refused:?}"
            );
        }
        let unknown = RoomWrite {
            room: store.next_room_no().await.unwrap(),
            ..RoomWrite::default()
        };
        let refused = room.commit(unknown).await.unwrap_err();
        assert!(matches!(refused, CommitError::RoomExists(_)), "{refused:?}");
    })
    .await;
}

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
        // Lock and read the room, look up, counter, event, room.
        assert_eq!(done.queries, 5, "{done:?}");
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

#[tokio::test]
async fn extremities_merge_and_late_parents_are_none() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        // Two forks from the same place, then one event after both.
        let (one, two) = (room.message("1").await, room.message("2").await);
        for pdu in [&one, &two] {
            room.commit(room.write_of(pdu.clone(), None).await)
                .await
                .unwrap();
        }
        assert_eq!(room.head().await.extremities.len(), 2);
        room.send("merge").await;
        assert_eq!(room.head().await.extremities.len(), 1);
        // A child that comes before its parent leaves a gap; the parent fills it and is no extremity.
        let bob = ruma::user_id!("@bob:there.example");
        let event = |prev: &rhizome_protocol::Pdu, depth| {
            Event {
                room: &room.id,
                sender: bob,
                kind: "m.room.message",
                state_key: None,
                content: json!({"body": depth}),
                prevs: vec![prev.event_id().to_owned()],
                auth: vec![],
                depth,
                redacts: None,
            }
            .build()
        };
        let parent = event(&one, 4);
        let child = event(&parent, 5);
        room.commit(room.write_of(child.clone(), None).await)
            .await
            .unwrap();
        let missing = store.missing_prev_events(room.no, 10).await.unwrap();
        // The create event has none, and alice's events are all there.
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].0, parent.event_id());
        let gaps = store.gaps_before(room.no, &[missing[0].1]).await.unwrap();
        assert_eq!(gaps[&missing[0].1], [parent.event_id().to_owned()]);
        let extremities = room.head().await.extremities.len();
        room.commit(room.write_of(parent, None).await)
            .await
            .unwrap();
        assert_eq!(room.head().await.extremities.len(), extremities);
        let gaps = store.gaps_before(room.no, &[missing[0].1]).await.unwrap();
        assert!(gaps.is_empty(), "{gaps:?}");
        assert!(
            store
                .missing_prev_events(room.no, 10)
                .await
                .unwrap()
                .is_empty()
        );
    })
    .await;
}

#[tokio::test]
async fn who_decides_says_what_becomes_of_told_and_late_extremities() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let bob = ruma::user_id!("@bob:there.example");
        let event = |prev: &rhizome_protocol::Pdu, depth| {
            Event {
                room: &room.id,
                sender: bob,
                kind: "m.room.message",
                state_key: None,
                content: json!({"body": depth}),
                prevs: vec![prev.event_id().to_owned()],
                auth: vec![],
                depth,
                redacts: None,
            }
            .build()
        };
        let ends = || async {
            let head = room.head().await;
            let mut ends: Vec<_> = head
                .extremities
                .iter()
                .map(|end| end.event_id.clone())
                .collect();
            ends.sort();
            ends
        };
        let sorted = |events: &[&rhizome_protocol::Pdu]| {
            let mut ids: Vec<_> = events
                .iter()
                .map(|event| event.event_id().to_owned())
                .collect();
            ids.sort();
            ids
        };
        let root = room.message("root").await;
        room.commit(room.write_of(root.clone(), None).await)
            .await
            .unwrap();
        let (late, other) = (event(&root, 4), event(&root, 5));
        let child = event(&late, 5);
        for pdu in [&other, &child] {
            room.commit(room.write_of(pdu.clone(), None).await)
                .await
                .unwrap();
        }
        // It came late and is one all the same.
        let mut write = room.write_of(late.clone(), None).await;
        write.add_extremities = vec![write.events[0].no];
        room.commit(write).await.unwrap();
        assert_eq!(ends().await, sorted(&[&other, &child, &late]));
        // Decided when `late` wasn't there yet.
        let upon = event(&late, 6);
        let mut write = room.write_of(upon.clone(), None).await;
        write.told = vec![late.event_id().to_owned()];
        room.commit(write).await.unwrap();
        assert_eq!(ends().await, sorted(&[&other, &child, &late, &upon]));
        // A stored one is added, others go; the last one can't.
        let all: Vec<_> = room.head().await.extremities.iter().map(|e| e.no).collect();
        let mut write = room.write_of(event(&upon, 7), None).await;
        write.events.clear();
        write.drop_extremities.clone_from(&all);
        room.commit(write.clone()).await.unwrap();
        assert_eq!(ends().await.len(), 4);
        let root_no = store.event(root.event_id()).await.unwrap().unwrap().no;
        write.add_extremities = vec![root_no];
        room.commit(write).await.unwrap();
        assert_eq!(ends().await, sorted(&[&root]));
    })
    .await;
}

#[tokio::test]
async fn whether_there_is_a_gap_before_a_new_event_is_known_without_asking() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let whole = room.send("whole").await;
        let torn = Event {
            room: &room.id,
            sender: &room.alice,
            kind: "m.room.message",
            state_key: None,
            content: json!({"body": "torn"}),
            prevs: vec![whole.clone(), "$missing".try_into().unwrap()],
            auth: vec![],
            depth: 9,
            redacts: None,
        };
        let torn = torn.build();
        let write = room.write_of(torn.clone(), None).await;
        room.commit(write).await.unwrap();
        let whole = store.event(&whole).await.unwrap().unwrap().no;
        let torn = store.event(torn.event_id()).await.unwrap().unwrap().no;
        let before = store.counters().now();
        let gaps = store.gaps_before(room.no, &[whole]).await.unwrap();
        assert!(gaps.is_empty());
        assert_eq!((store.counters().now() - before).queries, 0);
        let gaps = store.gaps_before(room.no, &[whole, torn]).await.unwrap();
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[&torn], ["$missing"]);
    })
    .await;
}

#[tokio::test]
async fn backfilled_events_stand_before_and_in_order() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let bob = ruma::user_id!("@bob:there.example");
        let mut all = Vec::new();
        for batch in [5_i64, 0] {
            let mut write = RoomWrite {
                room: room.no,
                ..RoomWrite::default()
            };
            for n in batch..batch + 5 {
                let pdu = Event {
                    room: &room.id,
                    sender: bob,
                    kind: "m.room.message",
                    state_key: None,
                    content: json!({ "body": n }),
                    prevs: vec![],
                    auth: vec![],
                    depth: 1,
                    redacts: None,
                }
                .build();
                all.push((n, pdu.event_id().to_owned()));
                let no = store.next_event_no().await.unwrap();
                write.events.push(NewEvent {
                    placement: Placement::Backfilled,
                    ..NewEvent::new(no, pdu)
                });
            }
            let head = store.log().head();
            let committed = room.commit(write).await.unwrap();
            assert_eq!((committed.first, store.log().head()), (head, head));
        }
        all.sort();
        let head = store.log().head();
        let page = store
            .history(room.no, HistoryToken::START, Direction::Forward, 7, head)
            .await
            .unwrap();
        let rest = store
            .history(
                room.no,
                HistoryToken::after(&page[6]).unwrap(),
                Direction::Forward,
                100,
                head,
            )
            .await
            .unwrap();
        let mut ids: Vec<_> = page
            .iter()
            .chain(&rest)
            .map(|event| event.pdu.event_id())
            .collect();
        let forward = ids.clone();
        let last = ids.split_off(10);
        let expected: Vec<_> = all.iter().map(|(_, id)| &**id).collect();
        assert_eq!(ids, expected);
        assert_eq!(last, [room.create.event_id(), room.join.event_id()]);
        let mut back = store
            .history(room.no, HistoryToken::END, Direction::Backward, 100, head)
            .await
            .unwrap();
        back.reverse();
        let back: Vec<_> = back.iter().map(|event| event.pdu.event_id()).collect();
        assert_eq!(back, forward);
    })
    .await;
}

#[tokio::test]
async fn heroes_stand_in_the_order_of_their_coming() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let users: Vec<_> = (0..5)
            .map(|n| ruma::UserId::parse(format!("@u{n}:there.example")).unwrap())
            .collect();
        let mut nos = Vec::new();
        for user in &users {
            nos.push(store.user_no(user).await.unwrap());
        }
        for (n, what) in [(4, "join"), (2, "invite"), (3, "leave"), (0, "join")] {
            room.member(&users[n], what).await;
        }
        let heroes = async |except: usize, count| {
            let found = store.heroes(room.no, nos[except], count).await.unwrap();
            let place = |user| nos.iter().position(|no| *no == user);
            let found = found.iter().filter_map(|member| place(member.user));
            found.collect::<Vec<_>>()
        };
        assert_eq!(heroes(1, 9).await, [4, 2, 0]);
        // The room's maker was first.
        assert_eq!(heroes(1, 2).await, [4]);
        assert_eq!(heroes(4, 9).await, [2, 0]);
        // A change of profile is no coming; from invited to joined is.
        room.member(&users[4], "join").await;
        room.member(&users[2], "join").await;
        assert_eq!(heroes(1, 9).await, [4, 0, 2]);
    })
    .await;
}

#[tokio::test]
async fn memberships_counts_and_servers_follow_the_state() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let bob = ruma::user_id!("@bob:there.example");
        let bob_no = store.user_no(bob).await.unwrap();
        room.member(bob, "invite").await;
        let counts = store.member_counts(room.no).await.unwrap();
        assert_eq!((counts.joined, counts.invited), (1, 1));
        room.member(bob, "join").await;
        let since = store
            .membership(bob_no, room.no)
            .await
            .unwrap()
            .unwrap()
            .since;
        room.member(bob, "join").await;
        let row = store.memberships_of(bob_no).await.unwrap()[0];
        assert_eq!((row.membership, row.since), (Membership::Join, since));
        assert!(row.pos > row.since);
        assert_eq!(store.joined_servers(room.no).await.unwrap().len(), 2);
        let server = server_name!("there.example");
        assert_eq!(store.rooms_of_server(server).await.unwrap(), [room.no]);
        let of_server = async |limit| store.joined_of_server(room.no, server, limit).await;
        assert_eq!(of_server(5).await.unwrap(), [bob_no]);
        assert_eq!(of_server(0).await.unwrap(), []);
        let heroes = store.heroes(room.no, bob_no, 5).await.unwrap();
        assert_eq!(heroes.len(), 1);
        room.member(bob, "leave").await;
        let forget = WriteSet::from(vec![Fact::Forgotten(Forgotten {
            user: bob_no,
            room: room.no,
        })]);
        store.commit(forget).await.unwrap();
        let row = store.membership(bob_no, room.no).await.unwrap().unwrap();
        assert_eq!((row.membership, row.forgotten), (Membership::Leave, true));
        assert_eq!(store.joined_servers(room.no).await.unwrap().len(), 1);
        assert_eq!(store.rooms_of_server(server).await.unwrap(), []);
        assert_eq!(of_server(5).await.unwrap(), []);
        let counts = store.member_counts(room.no).await.unwrap();
        assert_eq!((counts.joined, counts.invited), (1, 0));
        let members = store.members(room.no, None).await.unwrap();
        assert_eq!(members.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn what_must_be_sent_is_written_with_the_event() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let (one, two) = (server_name!("one.example"), server_name!("two.example"));
        let mut positions = Vec::new();
        for servers in [vec![one, two], vec![two]] {
            let pdu = room.message("out").await;
            let mut write = room.write_of(pdu, None).await;
            write.events[0].send_to = Some(servers.iter().map(|name| (*name).to_owned()).collect());
            positions.push(room.commit(write).await.unwrap().last);
        }
        let head = store.log().head();
        let out = store.outbound(Pos(0), head, 10).await.unwrap();
        let sizes: Vec<_> = out.iter().map(|out| out.destinations.len()).collect();
        assert_eq!(sizes, [2, 1]);
        assert_eq!(
            store
                .outbound_to(one, Pos(0), head, 10)
                .await
                .unwrap()
                .len(),
            1
        );
        assert_eq!(
            store
                .outbound_to(two, Pos(0), head, 10)
                .await
                .unwrap()
                .len(),
            2
        );
        assert_eq!(
            store
                .outbound_to(one, positions[0], head, 10)
                .await
                .unwrap()
                .len(),
            0
        );
        let mut after = store.destinations_after(positions[0]).await.unwrap();
        assert_eq!(after.pop(), Some((two.to_owned(), positions[1])));
        assert!(after.is_empty());
        let rooms = store.destination_rooms(one, Pos(0), 10).await.unwrap();
        assert_eq!((rooms.len(), rooms[0].last_pos), (1, positions[0]));
    })
    .await;
}
