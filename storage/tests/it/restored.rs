//! Events that get the content which they came without.

use std::sync::Arc;

use rhizome_protocol::Pdu;
use rhizome_storage::testing::{TestDatabase, each_database};
use rhizome_storage::{
    CurrentState, EntryKind, EventNo, EventRestored, LiveEvent, Pos, Redacts, Restored, RoomWrite,
    StateChange, StateChanged, Store,
};
use serde_json::json;

use crate::factory::{Event, Room};

/// Stores an event without its content, as a state event of the current state if it is one.
async fn stored_mangled(room: &Room, pdu: &Pdu) -> EventNo {
    let redacted = Arc::new(pdu.redacted());
    let write = match redacted.state_key() {
        Some(_) => room.state_write(redacted).await,
        None => room.write_of(redacted, None).await,
    };
    let no = write.events[0].no;
    room.commit(write).await.unwrap();
    no
}

async fn restore(room: &Room, no: EventNo, pdu: &Arc<Pdu>, redacts: Option<Redacts>) {
    let head = room.head().await;
    let current = match pdu.state_key() {
        Some(key) => {
            let key = room.store.key_no(pdu.kind(), key).await.unwrap();
            let change = StateChange {
                key,
                old: Some(no),
                new: Some(no),
            };
            Some(CurrentState {
                snapshot: head.snapshot.unwrap(),
                changes: vec![change],
            })
        }
        None => None,
    };
    let restored = Restored {
        no,
        pdu: pdu.clone(),
        redacts: redacts.into_iter().collect(),
    };
    let write = RoomWrite {
        room: room.no,
        expect: Some(head.state_version),
        restored: vec![restored],
        current,
        ..RoomWrite::default()
    };
    room.commit(write).await.unwrap();
}

/// The event's text by every way of reading.
async fn texts(store: &Store, pdu: &Pdu) -> Vec<Arc<str>> {
    let id = pdu.event_id().to_owned();
    let event = store.event(&id).await.unwrap().unwrap();
    let mut all = vec![event.pdu.json().clone()];
    all.extend(
        store
            .events(&[id])
            .await
            .unwrap()
            .iter()
            .map(|event| event.pdu.json().clone()),
    );
    all.extend(store.event_texts(&[event.no]).await.unwrap());
    let head = store.log().head();
    for entry in store.log().read(Pos(0), head, 1_000).await.unwrap() {
        if let EntryKind::Event(LiveEvent { event, .. }) = &entry.kind
            && event.pdu.event_id() == pdu.event_id()
        {
            all.push(event.pdu.json().clone());
        }
    }
    assert_eq!(all.len(), 4);
    all
}

#[tokio::test]
async fn a_whole_copy_takes_the_place_of_a_mangled_one() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let topic = json!({"topic": "the topic"});
        let state = room
            .event(&room.alice, "m.room.topic", Some(""), topic)
            .await;
        for pdu in [state, room.message("hello").await] {
            let no = stored_mangled(&room, &pdu).await;
            let before = store.event_by_no(no).await.unwrap().unwrap();
            assert_eq!(
                texts(&store, &pdu).await,
                vec![pdu.redacted().json().clone(); 4]
            );
            let head = room.head().await;
            let upto = store.log().head();
            restore(&room, no, &pdu, None).await;

            assert_eq!(texts(&store, &pdu).await, vec![pdu.json().clone(); 4]);
            let after = store.event_by_no(no).await.unwrap().unwrap();
            assert_eq!((after.no, after.order), (before.no, before.order));
            assert_eq!(after.state_after, before.state_after);
            let now = room.head().await;
            let is_state = pdu.state_key().is_some();
            assert_eq!(now.state_version, head.state_version + i64::from(is_state));
            assert_eq!(now.extremities, head.extremities);
            assert_eq!(now.snapshot, head.snapshot);
            // What the log says of it, from memory and from the database.
            let fresh = Store::open(store.options().clone()).await.unwrap();
            assert_eq!(texts(&fresh, &pdu).await, vec![pdu.json().clone(); 4]);
            for store in [&store, &fresh] {
                let head = store.log().head();
                let entries = store.log().read(upto, head, 10).await.unwrap();
                let mut said = entries.iter().map(|entry| &entry.kind);
                if is_state {
                    let Some(EntryKind::State(StateChanged { old, new, .. })) = said.next() else {
                        panic!("{entries:?}")
                    };
                    assert_eq!((*old, *new), (Some(no), Some(no)));
                }
                let Some(EntryKind::Restored(EventRestored { event, .. })) = said.next() else {
                    panic!("{entries:?}")
                };
                assert_eq!((*event, said.next().is_none()), (no, true));
            }
            fresh.close().await;
        }
    })
    .await;
}

async fn redaction_of(room: &Room, target: &Pdu) -> Arc<Pdu> {
    let head = room.head().await;
    let ends = head.extremities.iter();
    Event {
        room: &room.id,
        sender: &room.alice,
        kind: "m.room.redaction",
        state_key: None,
        content: json!({"reason": "x"}),
        prevs: ends.map(|ext| ext.event_id.clone()).collect(),
        auth: vec![],
        depth: 10,
        redacts: Some(target.event_id().to_owned()),
    }
    .build()
}

#[tokio::test]
async fn what_was_redacted_stays_so_and_a_redaction_may_come_mangled() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let everything = |target: &Pdu| {
            Some(Redacts {
                target: target.event_id().to_owned(),
                only_from: None,
            })
        };
        // A redaction that tells only when it is whole what it redacts: something stored, or to come.
        for is_stored in [true, false] {
            let target = room.message(&format!("secret {is_stored}")).await;
            if is_stored {
                room.commit(room.write_of(target.clone(), None).await)
                    .await
                    .unwrap();
            }
            let redaction = redaction_of(&room, &target).await;
            let no = stored_mangled(&room, &redaction).await;
            restore(&room, no, &redaction, everything(&target)).await;
            if !is_stored {
                room.commit(room.write_of(target.clone(), None).await)
                    .await
                    .unwrap();
            }
            assert_eq!(
                texts(&store, &target).await,
                vec![target.redacted().json().clone(); 4]
            );
        }
        // Mangled and redacted, the event gets its content no more.
        let target = room.message("secret").await;
        let no = stored_mangled(&room, &target).await;
        let mut write = room
            .write_of(redaction_of(&room, &target).await, None)
            .await;
        write.events[0].redacts = everything(&target);
        room.commit(write).await.unwrap();
        restore(&room, no, &target, None).await;
        assert_eq!(
            texts(&store, &target).await,
            vec![target.redacted().json().clone(); 4]
        );
        let event = store.event(target.event_id()).await.unwrap().unwrap();
        assert!(event.redacted_by.is_some());
    })
    .await;
}

#[tokio::test]
async fn another_process_hears_of_it() {
    let database = TestDatabase::postgres().await;
    let (here, there) = (database.open().await, database.open().await);
    let room = Room::new(&here, "r").await;
    let said = room.message("hello").await;
    let no = stored_mangled(&room, &said).await;
    there.log().refresh().await.unwrap();
    assert_eq!(
        texts(&there, &said).await,
        vec![said.redacted().json().clone(); 4]
    );
    restore(&room, no, &said, None).await;
    there.log().refresh().await.unwrap();
    assert_eq!(texts(&there, &said).await, vec![said.json().clone(); 4]);
    here.close().await;
    there.close().await;
    database.remove().await;
}
