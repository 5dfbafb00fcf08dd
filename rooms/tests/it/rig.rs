//! Servers without a network: each has a database of its own, and events are carried by hand.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use rhizome_protocol::{
    Membership, Object, Pdu, StateKey,
    draft::{self, Draft, Place},
    resolve::StateMap,
    sign::KeyPair,
};
use rhizome_rooms::{
    Error, Rooms,
    access::{Reader, RoomAccess},
    admit::{self, RemoteJoin},
    create::{
        self,
        plan::{CreateRoom, Policy, Preset},
    },
    membership::{self, Action, MembershipChange},
    receive::{self, Gathered, Received, packed::Packed},
    send::{self, SendOptions, Sent},
    state::{self, StateBefore},
};
use rhizome_storage::{
    Direction, EntryKind, EventNo, HistoryToken, LiveEvent, Pos, Store, StoredEvent,
    testing::{TestDatabase, check_summaries},
};
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

/// Runs the story on SQLite and on PostgreSQL, with `N` servers named `one`, `two`, …. However it ends, each room's
/// summary is what its state says.
pub async fn each<const N: usize, F, R>(story: F)
where
    F: Fn([Rooms; N]) -> R,
    R: Future<Output = ()>,
{
    for postgres in [false, true] {
        let mut databases = Vec::new();
        let mut servers = Vec::new();
        for index in 0..N {
            let database = TestDatabase::new(postgres).await;
            servers.push(server(database.open().await, index));
            databases.push(database);
        }
        let stores: Vec<Store> = servers
            .iter()
            .map(|server| server.store().clone())
            .collect();
        let servers: [Rooms; N] = servers.try_into().ok().unwrap();
        story(servers).await;
        for (store, database) in stores.into_iter().zip(databases) {
            check_summaries(&store, "in the end").await;
            store.close().await;
            database.remove().await;
        }
    }
}

/// The `index`th server on this database.
pub fn server(store: Store, index: usize) -> Rooms {
    let name = ["one", "two", "three", "four"][index];
    let seed = [u8::try_from(index).unwrap() + 1; 32];
    let key = Arc::new(KeyPair::from_seed("a_1", &seed).unwrap());
    Rooms::new(store, name.try_into().unwrap(), key)
}

pub fn user(name: &str) -> OwnedUserId {
    name.try_into().unwrap()
}

/// The room as far as the user may read it.
pub async fn room_for(rooms: &Rooms, user: &str, room: &RoomId) -> Result<RoomAccess, Error> {
    let user_id = self::user(user);
    let reader = Reader {
        user: rooms.store().user_no(&user_id).await.unwrap(),
        user_id: &user_id,
    };
    RoomAccess::of(rooms.store(), reader, room).await
}

pub fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

pub const VERSIONS: [&str; 12] = [
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12",
];

pub fn request(creator: &str, version: &str, preset: Preset) -> CreateRoom {
    CreateRoom {
        creator: user(creator),
        creator_profile: Object::new(),
        version: RoomVersionId::try_from(version).unwrap(),
        public: false,
        preset,
        name: None,
        topic: None,
        alias: None,
        creation_content: Object::new(),
        initial_state: Vec::new(),
        power_level_content_override: Object::new(),
        invite: Vec::new(),
        is_direct: false,
        invited_profiles: std::collections::HashMap::new(),
        encrypted: false,
        policy: Policy::default(),
    }
}

/// A public room of the newest version.
pub async fn public_room(rooms: &Rooms, creator: &str) -> OwnedRoomId {
    public_room_of(rooms, creator, "12").await
}

pub async fn public_room_of(rooms: &Rooms, creator: &str, version: &str) -> OwnedRoomId {
    create::create(rooms, &request(creator, version, Preset::PublicChat))
        .await
        .unwrap()
        .room_id
}

pub fn message(room: &RoomId, sender: &str, body: &str) -> Draft {
    Draft {
        room_id: Some(room.to_owned()),
        sender: user(sender),
        kind: "m.room.message".into(),
        state_key: None,
        content: object(json!({ "msgtype": "m.text", "body": body })),
        redacts: None,
    }
}

pub fn state(room: &RoomId, sender: &str, kind: &str, key: &str, content: Value) -> Draft {
    Draft {
        room_id: Some(room.to_owned()),
        sender: user(sender),
        kind: kind.into(),
        state_key: Some(key.into()),
        content: object(content),
        redacts: None,
    }
}

pub async fn say(rooms: &Rooms, room: &RoomId, sender: &str, body: &str) -> OwnedEventId {
    sent(rooms, message(room, sender, body)).await
}

pub async fn set(
    rooms: &Rooms,
    room: &RoomId,
    sender: &str,
    kind: &str,
    key: &str,
    content: Value,
) -> OwnedEventId {
    sent(rooms, state(room, sender, kind, key, content)).await
}

pub async fn sent(rooms: &Rooms, draft: Draft) -> OwnedEventId {
    send::send(rooms, draft, SendOptions::default())
        .await
        .unwrap()
        .event_id
}

pub async fn change(
    rooms: &Rooms,
    room: &RoomId,
    sender: &str,
    target: &str,
    action: Action,
) -> Result<Option<Sent>, Error> {
    let change = MembershipChange {
        room_id: room.to_owned(),
        sender: user(sender),
        target: user(target),
        action,
        reason: None,
        extra: Object::new(),
    };
    match membership::prepare(rooms, change).await? {
        Some(draft) => send::send(rooms, draft, SendOptions::default())
            .await
            .map(Some),
        None => Ok(None),
    }
}

/// A local user joins, leaves, invites …: it must succeed.
pub async fn changed(
    rooms: &Rooms,
    room: &RoomId,
    sender: &str,
    target: &str,
    action: Action,
) -> OwnedEventId {
    change(rooms, room, sender, target, action)
        .await
        .unwrap()
        .unwrap()
        .event_id
}

/// A user of `joiner` joins by way of `resident`.
pub async fn join_via(
    resident: &Rooms,
    joiner: &Rooms,
    room: &RoomId,
    who: &str,
) -> Result<OwnedEventId, Error> {
    let who = user(who);
    let template = admit::template(resident, room, &who, Membership::Join, &[]).await?;
    let event = draft::finish(
        template.rules,
        template.event,
        joiner.server_name(),
        joiner.key(),
    )
    .unwrap();
    let event = Arc::new(event);
    let admitted = admit::admit_signed(resident, event.clone()).await?;
    let (state, chain) = told_before(resident, &admitted).await;
    let join = RemoteJoin {
        rules: template.rules,
        given: Packed::of(template.rules, room, &state, &chain),
        event,
        without_members: None,
    };
    let stored = admit::adopt(joiner, join).await?;
    Ok(stored.pdu.event_id().to_owned())
}

/// The events of what `send_join` and `/state` answer: state and auth chain.
pub async fn told(rooms: &Rooms, before: &StateBefore) -> (Vec<Arc<Pdu>>, Vec<Arc<Pdu>>) {
    let load = async |nos: &[EventNo]| {
        let events = rooms.store().events_by_no(nos).await.unwrap();
        events.iter().map(|event| event.pdu.clone()).collect()
    };
    (load(&before.state).await, load(&before.auth_chain).await)
}

pub async fn told_before(rooms: &Rooms, event: &StoredEvent) -> (Vec<Arc<Pdu>>, Vec<Arc<Pdu>>) {
    let before = state::before(rooms, event).await.unwrap().unwrap();
    told(rooms, &before).await
}

pub async fn stored(rooms: &Rooms, id: &EventId) -> Arc<StoredEvent> {
    rooms.store().event(id).await.unwrap().unwrap()
}

pub async fn pdu(rooms: &Rooms, id: &EventId) -> Arc<Pdu> {
    stored(rooms, id).await.pdu.clone()
}

/// Carries an event from one server to another.
pub async fn carry(from: &Rooms, to: &Rooms, id: &EventId) -> Received {
    let pdu = pdu(from, id).await;
    receive::receive(to, pdu, &Gathered::default())
        .await
        .unwrap()
}

/// All live events of the room in log order.
pub async fn log_of(rooms: &Rooms, room: &RoomId) -> Vec<Arc<Pdu>> {
    let log = rooms.store().log();
    let head = log.refresh().await.unwrap();
    let entries = log.read(Pos(0), head, usize::MAX >> 1).await.unwrap();
    entries
        .iter()
        .filter_map(|entry| match &entry.kind {
            EntryKind::Event(LiveEvent { event, .. }) if event.pdu.room_id() == room => {
                Some(event.pdu.clone())
            }
            _ => None,
        })
        .collect()
}

/// The room's history as it is paged through, oldest first.
pub async fn history_of(rooms: &Rooms, room: &RoomId) -> Vec<OwnedEventId> {
    let head = rooms.store().room(room).await.unwrap().unwrap();
    let (from, upto) = (HistoryToken::START, Pos(i64::MAX));
    let events = rooms
        .store()
        .history(head.room, from, Direction::Forward, 1_000, upto)
        .await
        .unwrap();
    events
        .iter()
        .map(|event| event.pdu.event_id().to_owned())
        .collect()
}

/// The current state of the room.
pub async fn current(rooms: &Rooms, room: &RoomId) -> BTreeMap<StateKey, OwnedEventId> {
    let head = rooms.store().room(room).await.unwrap().unwrap();
    let store = rooms.store();
    let all = store.state_all(head.snapshot.unwrap()).await.unwrap();
    let mut map = BTreeMap::new();
    for (key, event) in all {
        let key = store.key(key).await.unwrap();
        let event = store.event_by_no(event).await.unwrap().unwrap();
        assert!(event.pdu.is_state(&key.kind, &key.key));
        map.insert(StateKey::clone(&key), event.pdu.event_id().to_owned());
    }
    map
}

/// The content of one entry of the current state.
pub async fn content(rooms: &Rooms, room: &RoomId, kind: &str, key: &str) -> Option<Value> {
    let head = rooms.store().room(room).await.unwrap().unwrap();
    let event = rooms
        .store()
        .state_event(head.snapshot.unwrap(), kind, key)
        .await
        .unwrap();
    event.map(|event| Value::Object(event.pdu.content().clone()))
}

/// The ids of the forward extremities, sorted.
pub async fn ends(rooms: &Rooms, room: &RoomId) -> Vec<OwnedEventId> {
    let head = rooms.store().room(room).await.unwrap().unwrap();
    let mut ends: Vec<_> = head
        .extremities
        .iter()
        .map(|end| end.event_id.clone())
        .collect();
    ends.sort();
    ends
}

/// An event that a server forges freely: after `prevs`, allowed by `auth`, signed by `by`.
pub fn forged(
    by: &Rooms,
    draft: &Draft,
    prevs: &[Arc<Pdu>],
    auth: &[Arc<Pdu>],
    ts: i64,
) -> Arc<Pdu> {
    let ids = |pdus: &[Arc<Pdu>]| pdus.iter().map(|pdu| pdu.event_id().to_owned()).collect();
    let rules = prevs[0].rules();
    let place = Place {
        prev_events: ids(prevs),
        auth_events: ids(auth),
        hashes: prevs
            .iter()
            .chain(auth)
            .filter_map(|pdu| Some((pdu.event_id().to_owned(), pdu.reference_hash()?)))
            .collect(),
        depth: prevs.iter().map(|pdu| pdu.depth()).max().unwrap() + 1,
        origin_server_ts: ts,
        sticky_ms: None,
    };
    Arc::new(draft::build(rules, draft, &place, by.server_name(), by.key()).unwrap())
}

/// The auth events that `draft` would need from the current state of `rooms`.
pub async fn auth_of(rooms: &Rooms, room: &RoomId, draft: &Draft) -> Vec<Arc<Pdu>> {
    let state = current(rooms, room).await;
    let head = rooms.store().room(room).await.unwrap().unwrap();
    let keys = rhizome_protocol::auth::auth_keys(
        head.rules,
        &draft.kind,
        &draft.sender,
        draft.state_key.as_deref(),
        &draft.content,
    );
    let mut events = Vec::new();
    for (kind, key) in keys {
        if let Some(id) = state.get(&StateKey::new(kind, key)) {
            events.push(pdu(rooms, id).await);
        }
    }
    events
}

pub fn uid(name: &str) -> &UserId {
    <&UserId>::try_from(name).unwrap()
}

/// The state after `event`, if these make up the state before it.
pub fn state_after(state: &[Arc<Pdu>], event: &Pdu) -> StateMap {
    let mut map = receive::state_map(state);
    if let Some(key) = event.state_key() {
        map.insert(
            StateKey::new(event.kind(), key),
            event.event_id().to_owned(),
        );
    }
    map
}
