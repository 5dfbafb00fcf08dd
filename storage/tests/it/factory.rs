//! Rooms and events for tests, so that a test states only what matters.

use std::sync::Arc;

use rhizome_protocol::draft::{Draft, Place, build};
use rhizome_protocol::sign::KeyPair;
use rhizome_protocol::{Membership, Object, Pdu, RoomRules};
use rhizome_storage::{
    CommitError, Committed, CurrentState, Fact, Invite, InviteChange, NewEvent, NewRoom, RoomHead,
    RoomNo, RoomWrite, StateChange, Store, TxnKey, UserNo, WriteSet,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, ServerName, UserId};
use serde_json::json;

pub fn rules() -> &'static RoomRules {
    RoomRules::named("11").unwrap()
}

pub fn key() -> KeyPair {
    KeyPair::from_seed("test", &[7; 32]).unwrap()
}

pub fn user(name: &str) -> OwnedUserId {
    UserId::parse(format!("@{name}:here.example")).unwrap()
}

/// An event of `sender` after `prevs`.
pub struct Event<'a> {
    pub room: &'a OwnedRoomId,
    pub sender: &'a UserId,
    pub kind: &'a str,
    pub state_key: Option<&'a str>,
    pub content: serde_json::Value,
    pub prevs: Vec<OwnedEventId>,
    pub auth: Vec<OwnedEventId>,
    pub depth: i64,
    pub redacts: Option<OwnedEventId>,
}

impl Event<'_> {
    pub fn build(self) -> Arc<Pdu> {
        let serde_json::Value::Object(content) = self.content else {
            panic!("content is an object")
        };
        let content: Object = content;
        let server: &ServerName = self.sender.server_name();
        let draft = Draft {
            room_id: Some(self.room.clone()),
            sender: self.sender.to_owned(),
            kind: self.kind.to_owned(),
            state_key: self.state_key.map(str::to_owned),
            content,
            redacts: self.redacts,
        };
        let place = Place {
            prev_events: self.prevs,
            auth_events: self.auth,
            depth: self.depth,
            origin_server_ts: 1_000,
            ..Place::default()
        };
        Arc::new(build(rules(), &draft, &place, server, &key()).unwrap())
    }
}

/// A room that was created by `@alice:here.example`.
#[derive(Clone)]
pub struct Room {
    pub store: Store,
    pub no: RoomNo,
    pub id: OwnedRoomId,
    pub alice: OwnedUserId,
    pub create: Arc<Pdu>,
    pub join: Arc<Pdu>,
}

impl Room {
    pub async fn new(store: &Store, name: &str) -> Self {
        let no = store.next_room_no().await.unwrap();
        let id = OwnedRoomId::try_from(format!("!{name}:here.example")).unwrap();
        let alice = user("alice");
        let create = Event {
            room: &id,
            sender: &alice,
            kind: "m.room.create",
            state_key: Some(""),
            content: json!({"room_version": "11"}),
            prevs: vec![],
            auth: vec![],
            depth: 1,
            redacts: None,
        }
        .build();
        let join = Event {
            room: &id,
            sender: &alice,
            kind: "m.room.member",
            state_key: Some(alice.as_str()),
            content: json!({"membership": "join"}),
            prevs: vec![create.event_id().to_owned()],
            auth: vec![create.event_id().to_owned()],
            depth: 2,
            redacts: None,
        }
        .build();
        let room = Self {
            store: store.clone(),
            no,
            id: id.clone(),
            alice,
            create,
            join,
        };
        let mut write = RoomWrite {
            room: no,
            create: Some(NewRoom {
                room_id: id,
                rules: rules(),
            }),
            ..RoomWrite::default()
        };
        let mut snapshot = None;
        let mut changes = Vec::new();
        for pdu in [&room.create, &room.join] {
            let event_no = store.next_event_no().await.unwrap();
            let key = store
                .key_no(pdu.kind(), pdu.state_key().unwrap())
                .await
                .unwrap();
            let new = store
                .derive_snapshot(no, snapshot, &[(key, Some(event_no))])
                .await
                .unwrap();
            write.events.push(NewEvent {
                state_before: snapshot,
                state_after: Some(new.no()),
                ..NewEvent::new(event_no, pdu.clone())
            });
            snapshot = Some(new.no());
            changes.push(StateChange {
                key,
                old: None,
                new: Some(event_no),
            });
            write.snapshots.push(new);
        }
        write.current = Some(CurrentState {
            snapshot: snapshot.unwrap(),
            changes,
        });
        room.commit(write).await.unwrap();
        room
    }

    pub async fn head(&self) -> Arc<RoomHead> {
        self.store.room(&self.id).await.unwrap().unwrap()
    }

    pub async fn commit(&self, write: RoomWrite) -> Result<Committed, CommitError> {
        let set = WriteSet::from(write);
        self.store.commit(set).await
    }

    /// An event after the room's extremities.
    pub async fn event(
        &self,
        sender: &UserId,
        kind: &str,
        state_key: Option<&str>,
        content: serde_json::Value,
    ) -> Arc<Pdu> {
        let head = self.head().await;
        Event {
            room: &self.id,
            sender,
            kind,
            state_key,
            content,
            prevs: head
                .extremities
                .iter()
                .take(20)
                .map(|ext| ext.event_id.clone())
                .collect(),
            auth: vec![
                self.create.event_id().to_owned(),
                self.join.event_id().to_owned(),
            ],
            depth: head
                .extremities
                .iter()
                .map(|ext| ext.depth)
                .max()
                .unwrap_or(0)
                + 1,
            redacts: None,
        }
        .build()
    }

    pub async fn message(&self, body: &str) -> Arc<Pdu> {
        let content = json!({"body": body, "msgtype": "m.text"});
        self.event(&self.alice, "m.room.message", None, content)
            .await
    }

    /// The write of a message-like event.
    pub async fn write_of(&self, pdu: Arc<Pdu>, txn: Option<TxnKey>) -> RoomWrite {
        let head = self.head().await;
        let no = self.store.next_event_no().await.unwrap();
        RoomWrite {
            room: self.no,
            events: vec![NewEvent {
                state_before: head.snapshot,
                state_after: head.snapshot,
                txn,
                ..NewEvent::new(no, pdu)
            }],
            ..RoomWrite::default()
        }
    }

    /// The write of a state event, decided on the current state.
    pub async fn state_write(&self, pdu: Arc<Pdu>) -> RoomWrite {
        let head = self.head().await;
        let store = &self.store;
        let no = store.next_event_no().await.unwrap();
        let kind = pdu.kind().to_owned();
        let state_key = pdu.state_key().unwrap().to_owned();
        let key = store.key_no(&kind, &state_key).await.unwrap();
        let old = store
            .state_entry(head.snapshot.unwrap(), &kind, &state_key)
            .await
            .unwrap();
        let snapshot = store
            .derive_snapshot(self.no, head.snapshot, &[(key, Some(no))])
            .await
            .unwrap();
        RoomWrite {
            room: self.no,
            expect: Some(head.state_version),
            events: vec![NewEvent {
                state_before: head.snapshot,
                state_after: Some(snapshot.no()),
                ..NewEvent::new(no, pdu)
            }],
            current: Some(CurrentState {
                snapshot: snapshot.no(),
                changes: vec![StateChange {
                    key,
                    old,
                    new: Some(no),
                }],
            }),
            snapshots: vec![snapshot],
            ..RoomWrite::default()
        }
    }

    pub async fn send(&self, body: &str) -> OwnedEventId {
        let pdu = self.message(body).await;
        let id = pdu.event_id().to_owned();
        self.commit(self.write_of(pdu, None).await).await.unwrap();
        id
    }

    pub async fn member(&self, who: &UserId, membership: &str) -> OwnedEventId {
        let content = json!({"membership": membership});
        let pdu = self
            .event(who, "m.room.member", Some(who.as_str()), content)
            .await;
        let id = pdu.event_id().to_owned();
        self.commit(self.state_write(pdu).await).await.unwrap();
        id
    }
}

/// An invite to a room outside, or a knock on it, that has come.
pub fn came(
    user: UserNo,
    room: RoomNo,
    membership: Membership,
    sender: UserNo,
    event: &str,
    stripped_state: &str,
) -> Fact {
    let change = InviteChange::Came {
        membership,
        sender,
        rules: rules(),
        event: event.into(),
        stripped_state: stripped_state.into(),
        expect: None,
    };
    Invite { user, room, change }.into()
}

/// The same, decided when a room had this state version.
pub fn decided_on(mut fact: Fact, version: i64) -> Fact {
    if let Fact::Invite(invite) = &mut fact
        && let InviteChange::Came { expect, .. } = &mut invite.change
    {
        *expect = Some(version);
    }
    fact
}

/// An invite to a room outside, or a knock on it, that is gone.
pub fn gone(user: UserNo, room: RoomNo, event: &str) -> Fact {
    let change = InviteChange::Gone {
        event: event.into(),
    };
    Invite { user, room, change }.into()
}
