//! Several processes on one PostgreSQL (several stores: they share nothing else), and starting again.

use std::time::Duration;

use rhizome_storage::testing::{TestDatabase, soon};
use rhizome_storage::{
    AccountData, CommitError, DataChange, EntryKind, Fact, LiveEvent, LostAnswer, NewAccount,
    NewAlias, NewLogin, NewTokens, Once, Options, Pos, Redacts, Sending, Store, ToDevice, WriteSet,
};
use ruma::{device_id, owned_server_name, owned_user_id, user_id};
use serde_json::json;

use crate::factory::{Room, user};

/// The same room, through another store.
pub fn seen_by(store: &Store, room: &Room) -> Room {
    Room {
        store: store.clone(),
        ..room.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_write_one_room_in_one_order() {
    let database = TestDatabase::postgres().await;
    let (one, two) = (database.open().await, database.open().await);
    let room = Room::new(&one, "r").await;
    two.log().refresh().await.unwrap();
    let mut tasks = Vec::new();
    for (index, store) in [&one, &two].into_iter().enumerate() {
        for writer in 0..4 {
            let room = seen_by(store, &room);
            tasks.push(tokio::spawn(async move {
                for n in 0..10 {
                    room.send(&format!("{index} {writer} {n}")).await;
                }
            }));
        }
        let room = seen_by(store, &room);
        tasks.push(tokio::spawn(async move {
            for n in 0..10 {
                loop {
                    let topic = json!({"topic": format!("{index} {n}")});
                    let pdu = room
                        .event(&room.alice, "m.room.topic", Some(""), topic)
                        .await;
                    match room.commit(room.state_write(pdu).await).await {
                        Ok(_) => break,
                        Err(CommitError::StateMoved { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }));
    }
    for task in tasks {
        soon("all changes are made", task).await.unwrap();
    }
    let mut orders = Vec::new();
    for store in [&one, &two, &database.open().await] {
        let head = store.log().refresh().await.unwrap();
        let entries = store.log().read(Pos(0), head, 10_000).await.unwrap();
        let order: Vec<_> = entries
            .iter()
            .map(|entry| match &entry.kind {
                EntryKind::Event(LiveEvent { event, .. }) => event.pdu.event_id().to_string(),
                other => format!("{} {other:?}", entry.pos),
            })
            .collect();
        assert_eq!(entries.len(), usize::try_from(head.0).unwrap());
        orders.push(order);
        let head = store.room(&room.id).await.unwrap().unwrap();
        assert_eq!(head.state_version, 21);
    }
    // 4 for the room, 80 messages, 20 topics with their changes.
    assert_eq!(orders[0].len(), 4 + 80 + 40);
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders[0], orders[2]);
    let heads = (
        seen_by(&one, &room).head().await,
        seen_by(&two, &room).head().await,
    );
    assert_eq!(heads.0.extremities, heads.1.extremities);
    for store in [one, two] {
        store.close().await;
    }
    database.remove().await;
}

#[tokio::test]
async fn another_process_hears_by_polling() {
    let database = TestDatabase::postgres().await;
    let one = database.open().await;
    let two = Store::open(Options {
        poll_interval: Some(Duration::from_millis(10)),
        ..database.options()
    })
    .await
    .unwrap();
    let room = Room::new(&one, "r").await;
    let alice = two.user_no(&room.alice).await.unwrap();
    let interest = two.log().interest(alice);
    interest.listen().await.unwrap();
    let id = room.send("across").await;
    soon("the other hears", async {
        while two.log().head() < one.log().head() {
            interest.changed().await;
        }
    })
    .await;
    let there = seen_by(&two, &room);
    assert_eq!(there.head().await.extremities[0].event_id, id);
    // A head that was cached is forgotten when another process moves it.
    let bob = ruma::user_id!("@bob:there.example");
    let bob_no = two.user_no(bob).await.unwrap();
    assert!(two.memberships_of(bob_no).await.unwrap().is_empty());
    room.member(bob, "join").await;
    two.log().refresh().await.unwrap();
    assert_eq!(two.memberships_of(bob_no).await.unwrap().len(), 1);
    assert_eq!(there.head().await.joined, 2);
    assert_eq!(two.joined_servers(room.no).await.unwrap().len(), 2);
    for store in [one, two] {
        store.close().await;
    }
    database.remove().await;
}

#[tokio::test]
async fn one_that_fell_behind_starts_from_the_head() {
    let database = TestDatabase::postgres().await;
    let one = database.open().await;
    let two = Store::open(Options {
        poll_interval: Some(Duration::from_hours(1)),
        tail_entries: 5,
        ..database.options()
    })
    .await
    .unwrap();
    let room = Room::new(&one, "r").await;
    let there = seen_by(&two, &room);
    assert_eq!(there.head().await.state_version, 1);
    for n in 0..10 {
        room.send(&n.to_string()).await;
    }
    two.log().refresh().await.unwrap();
    assert_eq!(two.log().head(), one.log().head());
    assert_eq!(
        there.head().await.extremities,
        room.head().await.extremities
    );
    assert!(two.log().tail(Pos(0), two.log().head()).is_none());
    let all = two.log().read(Pos(0), two.log().head(), 100).await.unwrap();
    assert_eq!(all.len(), 14);
    there.send("and on").await;
    for store in [one, two] {
        store.close().await;
    }
    database.remove().await;
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    for database in TestDatabase::both().await {
        let store = database.open().await;
        let room = Room::new(&store, "r").await;
        let mut ids = Vec::new();
        for n in 0..5 {
            ids.push(room.send(&n.to_string()).await);
        }
        let (head, epoch) = (store.log().head(), store.epoch());
        // No close: as if the process had gone.
        let again = database.open().await;
        assert_eq!((again.log().head(), again.epoch()), (head, epoch));
        assert_eq!(again.known_event_ids(&ids).await.unwrap().len(), 5);
        // Numbers that the first had leased aren't given again.
        seen_by(&again, &room).send("after").await;
        let committed = store.log().refresh().await.unwrap();
        assert!(committed >= head);
        for store in [store, again] {
            store.close().await;
        }
        database.remove().await;
    }
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_looked_up() {
    // On SQLite the process would end instead.
    let database = TestDatabase::postgres().await;
    let options = database.options();
    let lost = options.lost_answers.clone();
    let store = Store::open(options).await.unwrap();
    let room = Room::new(&store, "r").await;
    for answers in [
        vec![LostAnswer::Committed],
        vec![LostAnswer::RolledBack],
        vec![
            LostAnswer::Committed,
            LostAnswer::RolledBack,
            LostAnswer::RolledBack,
        ],
    ] {
        let before = store.log().head();
        let set = WriteSet {
            rooms: vec![
                room.write_of(room.message(&format!("{answers:?}")).await, None)
                    .await,
            ],
            ..WriteSet::default()
        };
        let topic = json!({"topic": format!("{answers:?}")});
        let topic = room
            .event(&room.alice, "m.room.topic", Some(""), topic)
            .await;
        let topic = room.state_write(topic).await;
        lost.lock().unwrap().extend(answers);
        // One group of two write sets.
        let (message, topic) = tokio::join!(store.commit(set), room.commit(topic));
        let (message, topic) = (message.unwrap(), topic.unwrap());
        assert!(message.last > before && topic.last > before);
        assert_eq!(store.log().head().0, before.0 + 3);
        let entries = store
            .log()
            .read(before, store.log().head(), 10)
            .await
            .unwrap();
        assert_eq!(entries.len(), 3, "{entries:?}");
    }
    let head = room.head().await;
    let fresh = database.open().await;
    let stored = fresh.room(&room.id).await.unwrap().unwrap();
    assert_eq!((head.state_version, stored.state_version), (4, 4));
    assert_eq!(head.extremities, stored.extremities);
    for store in [store, fresh] {
        store.close().await;
    }
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_one_changes_the_account_data() {
    let database = TestDatabase::postgres().await;
    let stores = [database.open().await, database.open().await];
    let alice = stores[0].user_no(&user("alice")).await.unwrap();
    let mut last = Pos(0);
    for n in 0..10 {
        let set = || {
            WriteSet::from(vec![Fact::AccountData(DataChange {
                data: AccountData {
                    user: alice,
                    room: None,
                    kind: "m.test".to_owned(),
                    content: format!("{{\"n\":{n}}}").into(),
                },
                expect: Some(last),
            })])
        };
        let (one, two) = tokio::join!(stores[0].commit(set()), stores[1].commit(set()));
        last = match (one, two) {
            (Ok(done), Err(CommitError::DataMoved { .. }))
            | (Err(CommitError::DataMoved { .. }), Ok(done)) => done.last,
            other => panic!("{other:?}"),
        };
    }
    for store in stores {
        store.close().await;
    }
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_one_gets_the_alias() {
    let database = TestDatabase::postgres().await;
    let stores = [database.open().await, database.open().await];
    let room = Room::new(&stores[0], "r").await;
    let alice = stores[0].user_no(&room.alice).await.unwrap();
    for n in 0..10 {
        let alias = ruma::OwnedRoomAliasId::try_from(format!("#a{n}:here.example")).unwrap();
        let set = || {
            WriteSet::from(vec![Fact::Alias(NewAlias {
                alias: alias.clone(),
                room: room.no,
                creator: alice,
            })])
        };
        let (one, two) = tokio::join!(stores[0].commit(set()), stores[1].commit(set()));
        match (one, two) {
            (Ok(_), Err(CommitError::AliasTaken(_))) | (Err(CommitError::AliasTaken(_)), Ok(_)) => {
            }
            other => panic!("{other:?}"),
        }
    }
    // What another process redacts is redacted here, in the tail as well.
    let target = room.message("secret").await;
    room.commit(room.write_of(target.clone(), None).await)
        .await
        .unwrap();
    stores[1].log().refresh().await.unwrap();
    let there = seen_by(&stores[1], &room);
    let head = there.head().await;
    let redaction = crate::factory::Event {
        room: &room.id,
        sender: &room.alice,
        kind: "m.room.redaction",
        state_key: None,
        content: json!({}),
        prevs: head
            .extremities
            .iter()
            .map(|ext| ext.event_id.clone())
            .collect(),
        auth: vec![],
        depth: 10,
        redacts: Some(target.event_id().to_owned()),
    }
    .build();
    let mut write = there.write_of(redaction, None).await;
    write.events[0].redacts = Some(Redacts {
        target: target.event_id().to_owned(),
        only_from: None,
    });
    there.commit(write).await.unwrap();
    let head = stores[0].log().refresh().await.unwrap();
    for entry in stores[0].log().tail(Pos(0), head).unwrap() {
        if let EntryKind::Event(LiveEvent { event, .. }) = &entry.kind {
            let is_target = event.pdu.event_id() == target.event_id();
            assert!(!is_target || event.redacted_by.is_some());
        }
    }
    for store in stores {
        store.close().await;
    }
    database.remove().await;
}

/// Another server repeats its transaction under another id, and each process gets one of the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_to_a_device_comes_once_to_two_processes() {
    let database = TestDatabase::postgres().await;
    let (one, two) = (database.open().await, database.open().await);
    let phone = device_id!("PHONE");
    let first = |user| NewLogin {
        user,
        device_id: phone.to_owned(),
        device_name: None,
        ip: String::new(),
        now_ms: 1,
        tokens: NewTokens {
            access_hash: "a".to_owned(),
            refresh_hash: None,
            expires_ms: None,
            refresh_expires_ms: None,
        },
        proof: None,
        proved: false,
    };
    let ada = one.create_account(
        user_id!("@ada:here"),
        NewAccount::default(),
        Some(Box::new(first)),
    );
    let ada = ada.await.unwrap().unwrap();
    for n in 0..20 {
        let commit = async |store: &Store| {
            let sending = Sending {
                sender: owned_user_id!("@bob:there"),
                kind: "m.test".to_owned(),
                received_ms: 1,
                once: Some(Once {
                    origin: owned_server_name!("there"),
                    message_id: n.to_string(),
                }),
            };
            let message = ToDevice {
                user: ada,
                device: phone.to_owned(),
                sending: sending.into(),
                content: "{}".into(),
            };
            store.commit(vec![Fact::from(message)].into()).await
        };
        let (here, there) = tokio::join!(commit(&one), commit(&two));
        assert!(here.is_ok() && there.is_ok(), "{here:?} {there:?}");
    }
    let waiting = one.to_device(ada, phone, Pos(0), Pos(i64::MAX), 99);
    assert_eq!(waiting.await.unwrap().len(), 20);
    for store in [one, two] {
        store.close().await;
    }
    database.remove().await;
}
