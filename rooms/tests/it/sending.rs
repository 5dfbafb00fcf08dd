use std::{collections::HashSet, sync::Arc};

use rhizome_protocol::StateKey;
use rhizome_rooms::{
    Rooms,
    membership::Action,
    receive::{self, Gathered, Received},
    send::{self, SendOptions},
};
use rhizome_storage::{TxnKey, testing::TestDatabase};
use ruma::OwnedEventId;
use serde_json::json;

use crate::rig::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_senders_make_one_order_and_one_state() {
    each(|[one]: [_; 1]| async move {
        let room = public_room(&one, "@alice:one").await;
        let before = log_of(&one, &room).await.len();
        let at = one.store().counters().now();
        let mut tasks = Vec::new();
        for sender in 0..32 {
            let (one, room) = (one.clone(), room.clone());
            tasks.push(tokio::spawn(async move {
                let mut ids = Vec::new();
                for turn in 0..10 {
                    let draft = if turn % 3 == 2 {
                        let value = json!({ "by": sender, "turn": turn });
                        state(
                            &room,
                            "@alice:one",
                            "org.example.note",
                            &format!("{}", turn % 4),
                            value,
                        )
                    } else {
                        message(&room, "@alice:one", &format!("{sender}/{turn}"))
                    };
                    ids.push(sent(&one, draft).await);
                }
                ids
            }));
        }
        let mut answered: Vec<OwnedEventId> = Vec::new();
        for task in tasks {
            answered.extend(task.await.unwrap());
        }
        let distinct: HashSet<_> = answered.iter().cloned().collect();
        assert_eq!(distinct.len(), 320);

        // Every answered event is in the log once, and nothing else is.
        let log = log_of(&one, &room).await;
        let logged: Vec<OwnedEventId> = log[before..]
            .iter()
            .map(|pdu| pdu.event_id().to_owned())
            .collect();
        assert_eq!(logged.len(), 320);
        assert_eq!(logged.into_iter().collect::<HashSet<_>>(), distinct);

        // The history is a line, and its replay is the state.
        let mut replay = std::collections::BTreeMap::new();
        for pdu in &log {
            if let Some(key) = pdu.state_key() {
                replay.insert(StateKey::new(pdu.kind(), key), pdu.event_id().to_owned());
            }
        }
        for pair in log.windows(2) {
            assert_eq!(pair[1].prev_events(), [pair[0].event_id().to_owned()]);
        }
        assert_eq!(current(&one, &room).await, replay);

        // Those who wait share a commit.
        let commits = one.store().counters().now().transactions - at.transactions;
        assert!(commits < 160, "{commits} transactions for 320 events");
    })
    .await;
}

fn txn(user: rhizome_storage::UserNo, id: &str) -> SendOptions {
    SendOptions {
        txn: Some(TxnKey {
            user,
            device: "PHONE".into(),
            path: "send/m.room.message".into(),
            txn_id: id.into(),
        }),
        ..SendOptions::default()
    }
}

#[tokio::test]
async fn a_transaction_makes_one_event_whoever_asks_again() {
    each(|[one]: [_; 1]| async move {
        let room = public_room(&one, "@alice:one").await;
        changed(&one, &room, "@bob:one", "@bob:one", Action::Join).await;
        let bob = one.store().user_no(uid("@bob:one")).await.unwrap();
        let mut tasks = Vec::new();
        for _ in 0..8 {
            let (one, draft) = (one.clone(), message(&room, "@bob:one", "once"));
            tasks.push(tokio::spawn(async move {
                send::send(&one, draft, txn(bob, "m1")).await
            }));
        }
        let mut ids = HashSet::new();
        let mut fresh = 0;
        for task in tasks {
            let sent = task.await.unwrap().unwrap();
            fresh += usize::from(sent.fresh);
            ids.insert(sent.event_id);
        }
        assert_eq!((ids.len(), fresh), (1, 1));
        let id = ids.into_iter().next().unwrap();

        // Another process, with nothing in its memory; other transactions go on around it.
        let other = server(one.store().clone(), 0);
        let (again, new) = tokio::join!(
            send::send(&other, message(&room, "@bob:one", "once"), txn(bob, "m1")),
            send::send(&other, message(&room, "@bob:one", "twice"), txn(bob, "m2")),
        );
        assert_eq!(again.unwrap().event_id, id);
        assert!(new.unwrap().fresh);

        // Also when the sender may not speak any more.
        changed(&one, &room, "@alice:one", "@bob:one", Action::Ban).await;
        let again = send::send(&one, message(&room, "@bob:one", "once"), txn(bob, "m1")).await;
        assert_eq!(again.unwrap().event_id, id);
        let new = send::send(&one, message(&room, "@bob:one", "thrice"), txn(bob, "m3")).await;
        assert_eq!(new.unwrap_err().status(), 403);
    })
    .await;
}

/// Senders of one process run ahead of the disk while another process takes the ground from under
/// them: it has done some of their transactions already, and moves the state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_ahead_is_decided_again_when_it_does_not_land() {
    each(|[one]: [_; 1]| async move {
        let room = public_room(&one, "@alice:one").await;
        let alice = one.store().user_no(uid("@alice:one")).await.unwrap();
        let before = log_of(&one, &room).await.len();
        let other = server(one.store().clone(), 0);
        let send_all = async |node: &Rooms, sender: usize| {
            let mut ids = Vec::new();
            for turn in 0..10 {
                let (draft, options) = if turn % 5 == 4 {
                    let note = json!({ "by": sender, "turn": turn });
                    let note = state(&room, "@alice:one", "org.example.note", "", note);
                    (note, SendOptions::default())
                } else {
                    let body = format!("{sender}/{turn}");
                    (message(&room, "@alice:one", &body), txn(alice, &body))
                };
                let sent = send::send(node, draft, options).await.unwrap();
                ids.push((sender, turn, sent.event_id));
            }
            ids
        };
        // Eight senders whose transactions both processes are asked for.
        let mine = futures_util::future::join_all((0..8).map(|sender| send_all(&one, sender)));
        let theirs = futures_util::future::join_all((0..8).map(|sender| send_all(&other, sender)));
        let (mine, theirs) = tokio::join!(mine, theirs);

        let mine: Vec<_> = mine.into_iter().flatten().collect();
        let theirs: Vec<_> = theirs.into_iter().flatten().collect();
        for (mine, theirs) in mine.iter().zip(&theirs) {
            if mine.1 % 5 != 4 {
                assert_eq!(mine, theirs, "one transaction, one event");
            }
        }
        let answered = mine.into_iter().chain(theirs).map(|(_, _, id)| id);
        let answered: HashSet<OwnedEventId> = answered.collect();
        let log = log_of(&one, &room).await;
        let logged: Vec<_> = log[before..]
            .iter()
            .map(|pdu| pdu.event_id().to_owned())
            .collect();
        assert_eq!(logged.iter().cloned().collect::<HashSet<_>>(), answered);
        assert_eq!(logged.len(), answered.len(), "nothing twice");
        // Nothing follows an event that was not stored.
        let mut stored = HashSet::new();
        for pdu in &log {
            assert!(pdu.prev_events().iter().all(|prev| stored.contains(prev)));
            stored.insert(pdu.event_id().to_owned());
        }
    })
    .await;
}

#[tokio::test]
async fn state_that_says_the_same_is_not_repeated() {
    each(|[one]: [_; 1]| async move {
        let room = public_room(&one, "@alice:one").await;
        let topic = || {
            state(
                &room,
                "@alice:one",
                "m.room.topic",
                "",
                json!({ "topic": "foxes" }),
            )
        };
        let first = send::send(&one, topic(), SendOptions::default())
            .await
            .unwrap();
        let second = send::send(&one, topic(), SendOptions::default())
            .await
            .unwrap();
        assert_eq!(first.event_id, second.event_id);
        assert!(first.fresh && !second.fresh);
        let at = one.store().log().head();
        change(&one, &room, "@alice:one", "@alice:one", Action::Join)
            .await
            .unwrap();
        assert_eq!(one.store().log().head(), at, "joined already");
    })
    .await;
}

#[tokio::test]
async fn a_message_into_a_warm_room_reads_no_database() {
    each(|[one]: [_; 1]| async move {
        let room = public_room(&one, "@alice:one").await;
        say(&one, &room, "@alice:one", "warm").await;
        let cold = one.store().counters().now();
        let mut taken = Vec::new();
        for turn in 0..10 {
            say(&one, &room, "@alice:one", &format!("{turn}")).await;
            taken.push(one.store().counters().now().queries - cold.queries);
        }
        // A commit's statements and nothing beside them. (A process that shares its database also looks
        // at the log now and then.)
        let least = taken.windows(2).map(|pair| pair[1] - pair[0]).min();
        assert!(least <= Some(5), "{taken:?}");
        let reads = one.store().counters().now().event_reads - cold.event_reads;
        assert_eq!(reads, 0);
        let commits = one.store().counters().now().transactions - cold.transactions;
        assert_eq!(commits, 10);
    })
    .await;
}

/// Eight senders at two servers that share nothing but the database.
async fn share_a_room(one: Rooms, other: Rooms) {
    let room = public_room(&one, "@alice:one").await;
    other.store().log().refresh().await.unwrap();
    let mut tasks = Vec::new();
    for (index, node) in [&one, &other].into_iter().enumerate() {
        for sender in 0..4 {
            let (node, room) = (node.clone(), room.clone());
            tasks.push(tokio::spawn(async move {
                let mut ids = Vec::new();
                for turn in 0..10 {
                    let value = json!({ "by": [index, sender, turn] });
                    let draft = if turn % 2 == 0 {
                        state(&room, "@alice:one", "org.example.note", "", value)
                    } else {
                        message(&room, "@alice:one", &value.to_string())
                    };
                    ids.push(sent(&node, draft).await);
                }
                ids
            }));
        }
    }
    let mut answered = HashSet::new();
    for task in tasks {
        answered.extend(task.await.unwrap());
    }
    assert_eq!(answered.len(), 80);
    let log = log_of(&one, &room).await;
    let logged: HashSet<_> = log.iter().map(|pdu| pdu.event_id().to_owned()).collect();
    assert!(answered.is_subset(&logged));
    let same: Vec<_> = log_of(&other, &room).await;
    let ids = |log: &[Arc<rhizome_protocol::Pdu>]| -> Vec<OwnedEventId> {
        log.iter().map(|pdu| pdu.event_id().to_owned()).collect()
    };
    assert_eq!(ids(&log), ids(&same), "one order");
    // The last note in the log is the one that stands.
    let last = log
        .iter()
        .rev()
        .find(|pdu| pdu.is_state("org.example.note", ""));
    for node in [&one, &other] {
        let state = current(node, &room).await;
        let stands = &state[&StateKey::new("org.example.note", "")];
        assert_eq!(last.unwrap().event_id(), stands);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_of_two_processes_share_a_room() {
    let database = TestDatabase::postgres().await;
    let (one, other) = (database.open().await, database.open().await);
    share_a_room(server(one.clone(), 0), server(other.clone(), 0)).await;
    one.close().await;
    other.close().await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_gets_a_turn_however_much_is_received() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        let joined = join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let auth = auth_of(&one, &room, &message(&room, "@bob:two", "")).await;
        let first = pdu(&one, &joined).await;
        let mut left = Vec::new();
        for line in 0..6 {
            let (mut last, mut events) = (first.clone(), Vec::new());
            for n in 0..40 {
                let draft = message(&room, "@bob:two", &format!("{line}, {n}"));
                let ts = last.origin_server_ts() + 1;
                last = forged(&two, &draft, &[last], &auth, ts);
                events.push(last.clone());
            }
            left.push(events);
        }
        // Somebody always waits at the room's gate until all are received.
        let mut lines = tokio::task::JoinSet::new();
        for events in left {
            let one = one.clone();
            lines.spawn(async move {
                for event in events {
                    let outcome = receive::receive(&one, event, &Gathered::default()).await;
                    assert_eq!(outcome.unwrap(), Received::Accepted);
                }
            });
        }
        for n in 0..3 {
            say(&one, &room, "@alice:one", &format!("{n}")).await;
        }
        assert!(lines.try_join_next().is_none(), "her turn came last");
        lines.join_all().await;
    })
    .await;
}
