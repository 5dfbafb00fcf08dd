//! The state of a room that this server comes into: given as a whole, without log positions of its own.

use std::sync::Arc;

use futures_util::FutureExt as _;
use rhizome_protocol::{Membership, Pdu};
use rhizome_storage::testing::{TestDatabase, each_database, soon};
use rhizome_storage::{
    Behind, CommitError, CurrentState, EntryKind, EventNo, NewAccount, NewEvent, NewLogin, NewRoom,
    NewTokens, Pos, RoomNo, RoomWrite, StateChange, Store, WriteSet,
};
use ruma::{OwnedRoomId, OwnedUserId, UserId, server_name};
use serde_json::json;

use crate::factory::{Event, rules, user};

const MEMBERS: usize = 30;

/// A room that another server has told: its events are stored, nothing refers to them.
struct Told {
    store: Store,
    no: RoomNo,
    id: OwnedRoomId,
    create: (Arc<Pdu>, EventNo),
    members: Vec<(Arc<Pdu>, EventNo)>,
}

fn remote(number: usize) -> OwnedUserId {
    UserId::parse(format!("@u{number}:s{}.example", number % 3)).unwrap()
}

impl Told {
    async fn new(store: &Store) -> Self {
        let id = OwnedRoomId::try_from("!told:s0.example").unwrap();
        let no = store.room_no(&id).await.unwrap();
        let event = |sender: &UserId, kind, key: &str, content, auth| {
            let sender = sender.to_owned();
            Event {
                room: &id,
                sender: &sender,
                kind,
                state_key: Some(key),
                content,
                prevs: vec![],
                auth,
                depth: 1,
                redacts: None,
            }
            .build()
        };
        let first = remote(0);
        let create = event(
            &first,
            "m.room.create",
            "",
            json!({"room_version": "11"}),
            vec![],
        );
        let mut pdus = vec![create.clone()];
        for number in 0..MEMBERS {
            let who = remote(number);
            // One has left.
            let membership = if number == 7 { "leave" } else { "join" };
            let content = json!({ "membership": membership });
            let auth = vec![create.event_id().to_owned()];
            pdus.push(event(&who, "m.room.member", who.as_str(), content, auth));
        }
        let nos = store.next_event_nos(pdus.len()).await.unwrap();
        let outliers = pdus.iter().zip(&nos);
        let write = RoomWrite {
            room: no,
            create: Some(NewRoom {
                room_id: id.clone(),
                rules: rules(),
            }),
            events: outliers
                .map(|(pdu, no)| NewEvent::outlier(*no, pdu.clone()))
                .collect(),
            ..RoomWrite::default()
        };
        let set = WriteSet::from(write);
        store.commit(set).await.unwrap();
        let mut stored = pdus.into_iter().zip(nos);
        Self {
            store: store.clone(),
            no,
            id,
            create: stored.next().unwrap(),
            members: stored.collect(),
        }
    }

    /// Alice comes in.
    async fn join(&self) -> RoomWrite {
        let store = &self.store;
        let alice = user("alice");
        let join = Event {
            room: &self.id,
            sender: &alice,
            kind: "m.room.member",
            state_key: Some(alice.as_str()),
            content: json!({"membership": "join"}),
            prevs: vec![],
            auth: vec![self.create.0.event_id().to_owned()],
            depth: 2,
            redacts: None,
        }
        .build();
        let own = store.next_event_no().await.unwrap();
        let all = self.members.iter().chain([&self.create]);
        let mut changes = Vec::new();
        for (pdu, no) in all.cloned().chain([(join.clone(), own)]) {
            let key = store.key_no(pdu.kind(), pdu.state_key().unwrap()).await;
            changes.push(StateChange {
                key: key.unwrap(),
                old: None,
                new: Some(no),
            });
        }
        let entries: Vec<_> = changes
            .iter()
            .map(|change| (change.key, change.new))
            .collect();
        let snapshot = store
            .derive_snapshot(self.no, None, &entries)
            .await
            .unwrap();
        let told = changes.split_off(MEMBERS);
        RoomWrite {
            room: self.no,
            expect: Some(0),
            events: vec![NewEvent {
                state_after: Some(snapshot.no()),
                ..NewEvent::new(own, join)
            }],
            current: Some(CurrentState {
                snapshot: snapshot.no(),
                changes: told,
            }),
            given: changes,
            snapshots: vec![snapshot],
            reset_extremities: Some(vec![own]),
            ..RoomWrite::default()
        }
    }
}

async fn commit(store: &Store, write: RoomWrite) -> Result<(), CommitError> {
    let set = WriteSet::from(write);
    store.commit(set).await.map(drop)
}

/// Those of the room's servers that were there before hear of the devices of whoever comes in.
#[tokio::test]
async fn who_comes_in_shares_the_room_with_those_who_were_there() {
    each_database(|store| async move {
        let alice = user("alice");
        let first = |user| NewLogin {
            user,
            device_id: "PHONE".into(),
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
        let made = store.create_account(&alice, NewAccount::default(), Some(Box::new(first)));
        let alice_no = made.await.unwrap().unwrap();
        let told = Told::new(&store).await;
        let before = store.log().head();
        commit(&store, told.join().await).await.unwrap();
        let sharers = store.new_sharers(Behind {
            destination: server_name!("s1.example"),
            ours: alice.server_name(),
            after: before,
            upto: store.log().head(),
            limit: 9,
        });
        let sharers: Vec<_> = sharers.await.unwrap();
        assert_eq!(sharers.len(), 1);
        assert_eq!(sharers[0].user, alice_no);
    })
    .await;
}

#[tokio::test]
async fn given_state_is_there_and_takes_no_positions() {
    each_database(|store| async move {
        let told = Told::new(&store).await;
        let before = store.log().head();
        commit(&store, told.join().await).await.unwrap();
        let head = store.log().head();
        assert_eq!(
            head.0 - before.0,
            3,
            "the join, its entry, the create event's"
        );
        let entries = store.log().read(before, head, 10).await.unwrap();
        let states = entries
            .iter()
            .filter(|entry| matches!(entry.kind, EntryKind::State(_)));
        assert_eq!(states.count(), 2);

        let room = store.room_by_no(told.no).await.unwrap().unwrap();
        assert_eq!(room.joined, 30);
        assert_eq!(store.joined_servers(told.no).await.unwrap().len(), 4);
        let joined = store
            .members(told.no, Some(Membership::Join))
            .await
            .unwrap();
        assert_eq!(joined.len(), MEMBERS);
        let gone = store.user_no(&remote(7)).await.unwrap();
        let row = store.membership(gone, told.no).await.unwrap().unwrap();
        assert_eq!(row.membership, Membership::Leave);
        assert_eq!((row.pos, row.since), (head, head));
        let entries = store.state_all(room.snapshot.unwrap()).await.unwrap();
        assert_eq!(entries.len(), MEMBERS + 2);
        let (count, bytes) = store.state_size(told.no).await.unwrap();
        assert_eq!(count, 32);
        assert!(bytes > 0);
    })
    .await;
}

#[tokio::test]
async fn given_state_comes_with_a_live_event() {
    each_database(|store| async move {
        let told = Told::new(&store).await;
        let mut write = told.join().await;
        write.events.clear();
        write.reset_extremities = None;
        assert!(matches!(
            commit(&store, write).await,
            Err(CommitError::Store(_))
        ));
        let mut write = told.join().await;
        write.current = None;
        assert!(matches!(
            commit(&store, write).await,
            Err(CommitError::Store(_))
        ));
        assert_eq!(store.log().head(), Pos(0));
    })
    .await;
}

#[tokio::test]
async fn other_processes_hear_of_given_members() {
    let database = TestDatabase::postgres().await;
    let (one, two) = (database.open().await, database.open().await);
    let told = Told::new(&one).await;
    let who = one.user_no(&remote(1)).await.unwrap();
    assert!(two.memberships_of(who).await.unwrap().is_empty());
    let interests = [one.log().interest(who), two.log().interest(who)];
    for interest in &interests {
        interest.listen().await.unwrap();
    }
    commit(&one, told.join().await).await.unwrap();
    two.log().refresh().await.unwrap();
    assert_eq!(two.memberships_of(who).await.unwrap().len(), 1);
    let room = two.room_by_no(told.no).await.unwrap().unwrap();
    assert_eq!(room.joined, 30);
    // Nobody told the two that this user is in the room, but what happens there wakes them.
    for (store, by) in [(&one, 2), (&two, 3)] {
        for interest in &interests {
            while interest.changed().now_or_never().is_some() {}
        }
        store.set_typing(
            told.no,
            &remote(by),
            Some(std::time::Duration::from_secs(5)),
        );
        for interest in &interests {
            soon("who waits is woken at both", interest.changed()).await;
        }
    }
    for store in [one, two] {
        store.close().await;
    }
    database.remove().await;
}
