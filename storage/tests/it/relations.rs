//! Which events relate to which.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rhizome_protocol::Pdu;
use rhizome_storage::testing::{
    blank_relations, each_database, forget_relations, relation_rows, thread_rows,
};
use rhizome_storage::{
    Lease, NewEvent, Placement, Pos, Redacts, Relating, Restored, RoomWrite, Status, ThreadsOf,
    UserNo,
};
use ruma::{EventId, OwnedEventId};
use serde_json::{Value, json};

use crate::factory::{Event, Room, user};

const ANY: Relating<'static> = Relating {
    senders: None,
    rel_types: None,
    ignored: &[],
    upto: Pos(i64::MAX),
};

fn relating(rel_type: &str, to: &EventId) -> Value {
    json!({"body": "b", "m.relates_to": {"rel_type": rel_type, "event_id": to, "key": "k"}})
}

async fn child(room: &Room, rel_type: &str, to: &EventId) -> Arc<Pdu> {
    let content = relating(rel_type, to);
    room.event(&room.alice, "m.room.message", None, content)
        .await
}

async fn send(room: &Room, pdu: &Arc<Pdu>) {
    let write = room.write_of(pdu.clone(), None).await;
    room.commit(write).await.unwrap();
}

/// Those of the events that others relate to so.
async fn related(room: &Room, of: &[&EventId], ways: Relating<'_>) -> BTreeSet<OwnedEventId> {
    let found = room.store.related(room.no, of, ways).await.unwrap();
    found.into_iter().collect()
}

async fn is_related(room: &Room, to: &EventId) -> bool {
    !related(room, &[to], ANY).await.is_empty()
}

async fn redact(room: &Room, target: &Pdu) {
    let head = room.head().await;
    let ends = head.extremities.iter().take(20);
    let ends = ends.map(|end| end.event_id.clone());
    let pdu = Event {
        room: &room.id,
        sender: &room.alice,
        kind: "m.room.redaction",
        state_key: None,
        content: json!({}),
        prevs: ends.collect(),
        auth: vec![],
        depth: 10,
        redacts: Some(target.event_id().to_owned()),
    };
    let mut write = room.write_of(pdu.build(), None).await;
    write.events[0].redacts = Some(Redacts {
        target: target.event_id().to_owned(),
        only_from: None,
    });
    room.commit(write).await.unwrap();
}

#[tokio::test]
async fn they_are_found_by_type_and_sender() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let (one, two) = (room.send("one").await, room.send("two").await);
        let alone = room.send("alone").await;
        let all: [&EventId; 3] = [&one, &two, &alone];
        send(&room, &child(&room, "m.thread", &one).await).await;
        let bob = user("bob");
        let by_bob = relating("m.annotation", &two);
        let by_bob = room.event(&bob, "m.reaction", None, by_bob).await;
        send(&room, &by_bob).await;
        let before = store.log().head();
        send(&room, &child(&room, "m.replace", &two).await).await;

        let numbers = store.user_nos(&[&room.alice, &bob]).await.unwrap();
        let (alice, bob) = (&numbers[..1], &numbers[1..]);
        let types =
            |types: &[&str]| -> Vec<String> { types.iter().map(|&text| text.to_owned()).collect() };
        let (thread, reaction) = (types(&["m.thread"]), types(&["m.annotation"]));
        let either = types(&["m.thread", "m.annotation"]);
        let by = |senders, rel_types| Relating {
            senders,
            rel_types,
            ..ANY
        };
        let nobody: &[UserNo] = &[];
        let cases: Vec<(Relating<'_>, Vec<&EventId>)> = vec![
            (ANY, vec![&one, &two]),
            (by(None, Some(&*thread)), vec![&one]),
            (by(None, Some(&*either)), vec![&one, &two]),
            (by(None, Some(&[])), vec![]),
            (by(Some(alice), None), vec![&one, &two]),
            (by(Some(bob), None), vec![&two]),
            (by(Some(&numbers), None), vec![&one, &two]),
            (by(Some(nobody), None), vec![]),
            // One event must do for both.
            (by(Some(bob), Some(&*reaction)), vec![&two]),
            (by(Some(alice), Some(&*reaction)), vec![]),
            (
                Relating {
                    ignored: bob,
                    ..by(None, Some(&*reaction))
                },
                vec![],
            ),
            (
                Relating {
                    ignored: bob,
                    ..ANY
                },
                vec![&one, &two],
            ),
            (
                Relating {
                    ignored: alice,
                    upto: before,
                    ..ANY
                },
                vec![&two],
            ),
            (
                Relating {
                    ignored: bob,
                    upto: before,
                    ..ANY
                },
                vec![&one],
            ),
        ];
        for (ways, expected) in cases {
            let expected: BTreeSet<_> = expected.into_iter().map(ToOwned::to_owned).collect();
            assert_eq!(related(&room, &all, ways).await, expected, "{ways:?}");
        }
        // An event of another room relates to nothing here, nor does one there.
        let other = Room::new(&store, "other").await;
        send(&other, &child(&other, "m.thread", &alone).await).await;
        assert!(!is_related(&room, &alone).await);
        assert!(!is_related(&other, &one).await);
        assert!(related(&room, &[], ANY).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_is_redacted_relates_to_nothing_in_whatever_order_it_comes() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let parent = room.send("parent").await;
        for redaction_first in [false, true] {
            let child = child(&room, "m.thread", &parent).await;
            if redaction_first {
                redact(&room, &child).await;
            }
            send(&room, &child).await;
            assert_eq!(is_related(&room, &parent).await, !redaction_first);
            if !redaction_first {
                redact(&room, &child).await;
            }
            assert!(!is_related(&room, &parent).await);
            assert_eq!(thread_rows(&store).await, []);
        }
        // Both in one commit.
        let child = child(&room, "m.replace", &parent).await;
        let mut write = room.write_of(child.clone(), None).await;
        let redaction = Event {
            room: &room.id,
            sender: &room.alice,
            kind: "m.room.redaction",
            state_key: None,
            content: json!({}),
            prevs: vec![child.event_id().to_owned()],
            auth: vec![],
            depth: 20,
            redacts: Some(child.event_id().to_owned()),
        };
        let mut second = room.write_of(redaction.build(), None).await;
        second.events[0].redacts = Some(Redacts {
            target: child.event_id().to_owned(),
            only_from: None,
        });
        write.events.append(&mut second.events);
        room.commit(write).await.unwrap();
        assert!(!is_related(&room, &parent).await);
        assert_eq!(relation_rows(&store).await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn only_the_history_relates_and_before_its_parent_too() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let parent = room.message("parent").await;
        let to = parent.event_id();
        let pdu = child(&room, "m.thread", to).await;
        let write_as = |no, status, placement| RoomWrite {
            room: room.no,
            events: vec![NewEvent {
                status,
                placement,
                ..NewEvent::new(no, pdu.clone())
            }],
            ..RoomWrite::default()
        };
        let no = store.next_event_no().await.unwrap();
        let outlier = write_as(no, Status::Accepted, Placement::Outlier);
        room.commit(outlier).await.unwrap();
        assert!(!is_related(&room, to).await);
        let placed = write_as(no, Status::Accepted, Placement::Backfilled);
        room.commit(placed).await.unwrap();
        assert!(is_related(&room, to).await, "the parent isn't there yet");
        send(&room, &parent).await;
        assert!(is_related(&room, to).await);

        for status in [Status::Rejected, Status::SoftFailed] {
            let other = room.send(&format!("{status:?}")).await;
            let pdu = child(&room, "m.thread", &other).await;
            let no = store.next_event_no().await.unwrap();
            let new = NewEvent {
                status,
                ..NewEvent::new(no, pdu)
            };
            let write = RoomWrite {
                room: room.no,
                events: vec![new],
                ..RoomWrite::default()
            };
            room.commit(write).await.unwrap();
            assert!(!is_related(&room, &other).await, "{status:?}");
        }

        // What came without its content relates once it has it.
        let other = room.send("other").await;
        let pdu = child(&room, "m.thread", &other).await;
        let write = room.write_of(Arc::new(pdu.redacted()), None).await;
        let no = write.events[0].no;
        room.commit(write).await.unwrap();
        assert!(!is_related(&room, &other).await);
        let write = RoomWrite {
            room: room.no,
            expect: Some(room.head().await.state_version),
            restored: vec![Restored {
                no,
                pdu,
                redacts: Vec::new(),
            }],
            ..RoomWrite::default()
        };
        room.commit(write).await.unwrap();
        assert!(is_related(&room, &other).await);
    })
    .await;
}

#[tokio::test]
async fn stored_events_are_looked_through_once() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let parent = room.send("parent").await;
        let gone = child(&room, "org.test.gone", &parent).await;
        // Some pieces of events, with relations in the first and the last.
        send(&room, &child(&room, "m.thread", &parent).await).await;
        let annotation = relating("m.annotation", &parent);
        let annotation = room
            .event(&user("bob"), "m.reaction", None, annotation)
            .await;
        send(&room, &annotation).await;
        for batch in 0..4 {
            let mut write = RoomWrite {
                room: room.no,
                ..RoomWrite::default()
            };
            for n in 0..300 {
                let pdu = room.message(&format!("{batch} {n} m.relates_to")).await;
                let no = store.next_event_no().await.unwrap();
                write.events.push(NewEvent::new(no, pdu));
            }
            room.commit(write).await.unwrap();
        }
        send(&room, &child(&room, "m.replace", &parent).await).await;
        send(&room, &gone).await;
        redact(&room, &gone).await;
        let written = relation_rows(&store).await;
        assert_eq!(written.len(), 3, "{written:?}");
        let threads = thread_rows(&store).await;
        assert_eq!(threads.len(), 1);

        assert!(store.fill_relations(Duration::ZERO).await.unwrap());
        assert_eq!(relation_rows(&store).await, written);
        assert_eq!(thread_rows(&store).await, threads);
        forget_relations(&store).await;
        assert!(!is_related(&room, &parent).await);
        let minute = Some(Duration::from_mins(1));
        let lease = Lease::take(&store, "relations", minute).await.unwrap();
        assert!(!store.fill_relations(Duration::ZERO).await.unwrap());
        assert!(!is_related(&room, &parent).await, "another process does it");
        lease.unwrap().release().await.unwrap();
        // What comes before it is through is written as always, and not twice.
        send(&room, &child(&room, "m.reference", &parent).await).await;
        assert!(store.fill_relations(Duration::ZERO).await.unwrap());
        let found = relation_rows(&store).await;
        assert_eq!(found.len(), 4);
        assert!(
            written.iter().all(|row| found.contains(row)),
            "{found:?} {written:?}"
        );
        assert!(store.fill_relations(Duration::ZERO).await.unwrap());
        assert_eq!(relation_rows(&store).await, found);
        assert_eq!(thread_rows(&store).await, threads);
        // An older binary says less; it is made up for at the next start.
        blank_relations(&store).await;
        assert!(store.fill_relations(Duration::ZERO).await.unwrap());
        assert_eq!(relation_rows(&store).await, found);
        assert_eq!(thread_rows(&store).await, threads);
    })
    .await;
}

#[tokio::test]
async fn a_thread_is_where_its_latest_event_is() {
    each_database(|store| async move {
        let room = Room::new(&store, "r").await;
        let (one, two) = (room.send("one").await, room.send("two").await);
        let latest = async |root: &EventId| {
            let rows = thread_rows(&store).await;
            let row = rows.into_iter().find(|(id, _)| *id == *root.as_str());
            row.map(|(_, latest)| latest)
        };
        let in_thread = async |body: &str| {
            let mut content = relating("m.thread", &one);
            content["body"] = json!(body);
            let kind = "m.room.message";
            room.event(&room.alice, kind, None, content).await
        };
        let first = in_thread("first").await;
        let second = in_thread("second").await;
        send(&room, &first).await;
        let at_first = store.log().head().0;
        assert_eq!(latest(&one).await, Some(at_first));
        send(&room, &second).await;
        let at_second = store.log().head().0;
        send(&room, &child(&room, "m.thread", &two).await).await;
        send(&room, &child(&room, "m.reference", &one).await).await;
        assert_eq!(latest(&one).await, Some(at_second));
        assert!(latest(&two).await > Some(at_second));
        // What is filled in later is no activity.
        let old = in_thread("old").await;
        let no = store.next_event_no().await.unwrap();
        let backfilled = NewEvent {
            placement: Placement::Backfilled,
            ..NewEvent::new(no, old.clone())
        };
        let write = RoomWrite {
            room: room.no,
            events: vec![backfilled],
            ..RoomWrite::default()
        };
        room.commit(write).await.unwrap();
        assert_eq!(latest(&one).await, Some(at_second));
        redact(&room, &second).await;
        assert_eq!(latest(&one).await, Some(at_first));
        redact(&room, &first).await;
        assert!(
            latest(&one).await < Some(0),
            "it goes on with what was filled in"
        );
        redact(&room, &old).await;
        assert_eq!(latest(&one).await, None);
        send(&room, &in_thread("last").await).await;
        assert_eq!(latest(&one).await, Some(store.log().head().0));
        let all = store.threads(room.no, ThreadsOf::All, i64::MAX, 10);
        let roots: Vec<_> = all.await.unwrap().into_iter().map(|row| row.root).collect();
        assert_eq!(roots, [one, two]);
    })
    .await;
}
