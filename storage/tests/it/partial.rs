//! Rooms that were joined before their members were known: what rests upon that, and how they are completed.

use std::sync::Arc;
use std::time::Duration;

use rhizome_protocol::Pdu;
use rhizome_storage::testing::{TestDatabase, each_database};
use rhizome_storage::{
    Check, CheckOptions, CheckProgress, CommitError, Completing, CurrentState, DecidedAgain,
    EntryKind, EventNo, MembersKnown, NewEvent, Options, Partial, PartialJoin, Pos, RoomWrite,
    StateChange, Status, Step, Store, StoredEvent, WriteSet,
};
use ruma::{UserId, owned_server_name, server_name, user_id};
use serde_json::json;

use crate::factory::{Room, user};
use crate::processes::seen_by;

/// A room that is partial by Carol's join; `there.example` and `other.example` were said to be in it.
async fn partial(store: &Store) -> (Room, EventNo) {
    let room = Room::new(store, "r").await;
    let carol = user("carol");
    let content = json!({"membership": "join"});
    let join = room
        .event(&carol, "m.room.member", Some(carol.as_str()), content)
        .await;
    let mut write = room.state_write(join).await;
    let join = write.events[0].no;
    write.partial = Partial::Begins(PartialJoin {
        join,
        servers: vec![
            owned_server_name!("there.example"),
            owned_server_name!("other.example"),
        ],
        ask: vec![owned_server_name!("there.example")],
    });
    room.commit(write).await.unwrap();
    (room, join)
}

async fn message(room: &Room, sender: &UserId, status: Status) -> Arc<StoredEvent> {
    let content = json!({"body": format!("{status:?}"), "msgtype": "m.text"});
    let pdu = room.event(sender, "m.room.message", None, content).await;
    let mut write = room.write_of(pdu.clone(), None).await;
    write.events[0].status = status;
    room.commit(write).await.unwrap();
    room.store.event(pdu.event_id()).await.unwrap().unwrap()
}

fn again(event: &StoredEvent, status: Status) -> DecidedAgain {
    DecidedAgain {
        no: event.no,
        status,
        reason: (status == Status::Rejected).then(|| "banned".to_owned()),
        state_before: event.state_before,
        state_after: event.state_after,
        visibility: event.visibility,
        redacts: None,
    }
}

/// Dave is there as well: the room's state with him, and that no reader has heard of it.
async fn with_dave(room: &Room, partial: Partial) -> WriteSet {
    let store = &room.store;
    let dave = user_id!("@dave:there.example");
    let content = json!({"membership": "join"});
    let pdu: Arc<Pdu> = room
        .event(dave, "m.room.member", Some(dave.as_str()), content)
        .await;
    let no = match store.event(pdu.event_id()).await.unwrap() {
        Some(stored) => stored.no,
        None => store.next_event_no().await.unwrap(),
    };
    let outlier = RoomWrite {
        room: room.no,
        events: vec![NewEvent::outlier(no, pdu)],
        ..RoomWrite::default()
    };
    // It may be there already.
    let _ = room.commit(outlier).await;
    let head = room.head().await;
    let key = store.key_no("m.room.member", dave.as_str()).await.unwrap();
    let snapshot = store
        .derive_snapshot(room.no, head.snapshot, &[(key, Some(no))])
        .await
        .unwrap();
    let write = RoomWrite {
        room: room.no,
        expect: Some(head.state_version),
        current: Some(CurrentState {
            snapshot: snapshot.no(),
            changes: vec![],
        }),
        given: vec![StateChange {
            key,
            old: None,
            new: Some(no),
        }],
        snapshots: vec![snapshot],
        partial,
        ..RoomWrite::default()
    };
    WriteSet {
        rooms: vec![write],
        facts: vec![MembersKnown { room: room.no }.into()],
    }
}

async fn told(store: &Store, after: Pos) -> Vec<String> {
    let head = store.log().refresh().await.unwrap();
    let entries = store.log().read(after, head, 100).await.unwrap();
    let told = entries.iter().map(|entry| match &entry.kind {
        EntryKind::Event(live) => format!("{} {}", entry.pos, live.event.pdu.event_id()),
        other => format!("{} {other:?}", entry.pos),
    });
    told.collect()
}

async fn servers(store: &Store, room: &Room) -> Vec<String> {
    let mut servers: Vec<_> = store
        .joined_servers(room.no)
        .await
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    servers.sort();
    servers
}

#[tokio::test]
async fn what_comes_meanwhile_is_noted() {
    each_database(|store| async move {
        let (room, join) = partial(&store).await;
        assert_eq!(room.head().await.partial, Some(join));
        assert_eq!(
            servers(&store, &room).await,
            ["here.example", "other.example", "there.example"]
        );
        let bob = user_id!("@bob:there.example");
        let mut noted = vec![join];
        for status in [Status::Accepted, Status::SoftFailed, Status::Rejected] {
            noted.push(message(&room, bob, status).await.no);
        }
        assert_eq!(store.partial_events(join).await.unwrap(), noted);
        assert!(store.is_partial_event(noted[2]).await.unwrap());

        let other = server_name!("other.example");
        for room in [None, Some(room.no)] {
            assert!(store.is_said_to_be_in(other, room).await.unwrap());
            let third = server_name!("third.example");
            assert!(!store.is_said_to_be_in(third, room).await.unwrap());
        }
        // What was decided upon another join's partial state isn't written.
        let mut write = room.write_of(room.message("late").await, None).await;
        write.partial = Partial::Upon(noted[1]);
        let refused = room.commit(write.clone()).await.unwrap_err();
        assert!(
            matches!(refused, CommitError::StateMoved { .. }),
            "{refused}"
        );
        write.partial = Partial::Upon(join);
        room.commit(write).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_room_is_asked_for_until_it_is_complete() {
    each_database(|store| async move {
        let (room, join) = partial(&store).await;
        let due = store.next_partial_rooms(9).await.unwrap();
        assert_eq!(due, [store.partial_room(room.no).await.unwrap().unwrap()]);
        assert_eq!((due[0].join, due[0].tries, due[0].retry_at), (join, 0, 0));
        assert_eq!(due[0].ask, [server_name!("there.example")]);
        store.put_off_partial(&due[0], 3, 70).await.unwrap();
        // Read before somebody else put it off.
        store.put_off_partial(&due[0], 9, 90).await.unwrap();
        let now = store.partial_room(room.no).await.unwrap().unwrap();
        assert_eq!((now.tries, now.retry_at), (3, 70));
        store.want_partial(room.no).await.unwrap();
        let now = store.partial_room(room.no).await.unwrap().unwrap();
        assert_eq!((now.tries, now.retry_at), (0, 0));
        assert_eq!(now.ask, due[0].ask);
        // Told anew in full: nothing is partial any more.
        let mut write = with_dave(&room, Partial::Ends).await.rooms.remove(0);
        write.given.clear();
        room.commit(write).await.unwrap();
        assert_eq!(room.head().await.partial, None);
        assert_eq!(store.next_partial_rooms(9).await.unwrap(), []);
        assert_eq!(servers(&store, &room).await, ["here.example"]);
        // What was decided then stays what it is.
        assert!(store.is_partial_event(join).await.unwrap());
    })
    .await;
}

async fn completes(database: &TestDatabase) {
    let store = database.open().await;
    let (room, join) = partial(&store).await;
    let other = Store::open(Options {
        poll_interval: Some(Duration::from_hours(1)),
        ..database.options()
    });
    let other = other.await.unwrap();
    let start = other.log().refresh().await.unwrap();
    let bob = user_id!("@bob:there.example");
    let banned = message(&room, bob, Status::Accepted).await;
    let hidden = message(&room, bob, Status::SoftFailed).await;
    // Both processes hold them.
    assert_eq!(told(&store, start).await.len(), 1);
    assert_eq!(told(&other, start).await.len(), 1);
    other.event(hidden.pdu.event_id()).await.unwrap();

    let joined = store.event_by_no(join).await.unwrap().unwrap();
    let completing = |again| Partial::Completes(Completing { join, again });
    let all = vec![
        again(&joined, Status::Accepted),
        again(&banned, Status::Rejected),
        again(&hidden, Status::Accepted),
    ];
    // One was committed that the others don't know of.
    let set = with_dave(&room, completing(all[..2].to_vec())).await;
    let refused = store.commit(set).await.unwrap_err();
    assert!(
        matches!(refused, CommitError::StateMoved { .. }),
        "{refused}"
    );
    let mut set = with_dave(&room, completing(all.clone())).await;
    let mut shown = NewEvent::new(hidden.no, hidden.pdu.clone());
    (shown.state_before, shown.state_after) = (hidden.state_before, hidden.state_after);
    set.rooms[0].events.push(shown);
    set.rooms[0].reset_extremities = Some(vec![hidden.no]);
    // Two in one group: the second is refused as well.
    let beside = room.write_of(room.message("beside").await, None).await;
    let beside = RoomWrite {
        partial: Partial::Upon(join),
        ..beside
    };
    let done = store.submit(set.clone()).await.unwrap();
    let late = store.submit(WriteSet::from(beside)).await.unwrap();
    done.await.unwrap();
    assert!(matches!(
        late.await.unwrap_err(),
        CommitError::StateMoved { .. }
    ));
    assert!(store.commit(set).await.is_err());

    let fresh = database.open().await;
    let log = told(&store, start).await;
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(log[0].ends_with(hidden.pdu.event_id().as_str()), "{log:?}");
    assert!(log[1].contains("MembersKnown"), "{log:?}");
    for reader in [&store, &other, &fresh] {
        assert_eq!(told(reader, start).await, log);
        is_complete(reader, &room, join, (&banned, &hidden)).await;
    }
    let mut check = Check::open(&store.options().url, CheckOptions::default())
        .await
        .unwrap();
    let found = check.step(Step::Rooms, &CheckProgress::default()).await;
    assert!(found.unwrap().wrong.is_empty());
    check.close().await;
    for store in [store, other, fresh] {
        store.close().await;
    }
}

async fn is_complete(
    reader: &Store,
    room: &Room,
    join: EventNo,
    (banned, hidden): (&StoredEvent, &StoredEvent),
) {
    let room = seen_by(reader, room);
    let head = room.head().await;
    assert_eq!((head.partial, head.joined), (None, 3));
    assert_eq!(
        servers(reader, &room).await,
        ["here.example", "there.example"]
    );
    let now = reader.event(banned.pdu.event_id()).await.unwrap().unwrap();
    assert_eq!((now.status, now.order), (Status::Rejected, None));
    assert_eq!(now.reason.as_deref(), Some("banned"));
    let now = reader.event(hidden.pdu.event_id()).await.unwrap().unwrap();
    assert_eq!(now.status, Status::Accepted);
    assert!(now.pos().is_some());
    assert!(!reader.is_partial_event(join).await.unwrap());
    assert!(reader.partial_room(room.no).await.unwrap().is_none());
    let known = reader.members_known(&[room.no]).await.unwrap()[&room.no];
    let dave = reader
        .user_no(user_id!("@dave:there.example"))
        .await
        .unwrap();
    assert_eq!(
        reader.members_given_at(room.no, known).await.unwrap(),
        [dave]
    );
}

#[tokio::test]
async fn a_room_is_completed_at_once() {
    for database in TestDatabase::both().await {
        completes(&database).await;
        database.remove().await;
    }
}
