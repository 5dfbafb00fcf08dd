//! Rooms with many loose ends, in which nobody speaks who could tie them up.

use std::{sync::Arc, time::Duration};

use rhizome_federation::testing::Network;
use rhizome_rooms::receive::{self, Gathered, Received};
use rhizome_storage::{Clock, Options, Store, testing::TestDatabase};
use ruma::{OwnedEventId, OwnedRoomId, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::{
    inbound::forge_message,
    world::{Server, eventually, json_of},
};

/// The type of events that say nothing.
const DUMMY: &str = "org.matrix.dummy_event";
/// More than a room is left with.
const MANY: usize = 14;

async fn ends(server: &Server, room: &RoomId) -> Vec<OwnedEventId> {
    let head = server.store().room(room).await.unwrap().unwrap();
    let ends = head.extremities.iter();
    ends.map(|end| end.event_id.clone()).collect()
}

/// Somebody says many things at once, upon what there is: each is an end of the room.
async fn fork(from: &Server, to: &Server, user: &UserId, room: &RoomId, txn: &str) {
    let base = ends(from, room).await;
    let base: Vec<_> = base.iter().map(|id| &**id).collect();
    let mut events: Vec<Value> = Vec::new();
    for n in 0..MANY {
        let event = forge_message(from, user, room, &base, &format!("{txn} {n}")).await;
        events.push(json_of(&event));
        let rooms = from.fed.rooms();
        let received = receive::receive(rooms, Arc::new(event), &Gathered::default()).await;
        assert_eq!(received.unwrap(), Received::Accepted);
    }
    from.transaction(to, txn, &events, &[]).await;
    eventually("the room has many ends", async || {
        ends(to, room).await.len() == MANY
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loose_ends_are_tied_up_where_somebody_may() {
    for postgres in [false, true] {
        let databases = TestDatabase::several(postgres, 2).await;
        Box::pin(tying(&databases)).await;
        for database in databases {
            database.remove().await;
        }
    }
}

/// A room in which everybody may send what says nothing, or only who made it.
async fn room(server: &Server, user: &UserId, everybody: bool) -> OwnedRoomId {
    let room = server.create(user, &RoomVersionId::V11).await;
    let needed = if everybody { 0 } else { 50 };
    let levels = json!({ "users": { user: 100 }, "events": { DUMMY: needed } });
    let kind = "m.room.power_levels";
    server
        .send(user, &room, kind, Some(""), levels)
        .await
        .unwrap();
    room
}

async fn tying(databases: &[TestDatabase]) {
    let (network, clock) = (Network::default(), Clock::manual(1_700_000_000_000));
    let mut servers = Vec::new();
    for (index, database) in databases.iter().enumerate() {
        let options = Options {
            clock: clock.clone(),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        servers.push(Server::new(&network, store, index));
    }
    let [a, b] = &mut servers[..] else {
        panic!("two servers")
    };
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let open = room(a, &alice, true).await;
    let closed = room(a, &alice, false).await;
    for room in [&open, &closed] {
        b.join(&bob, room, a).await.unwrap();
    }
    b.run();
    fork(a, b, &alice, &closed, "closed").await;
    let left = ends(b, &closed).await;
    // After the second time, the first was looked at for certain.
    for txn in ["first", "second"] {
        fork(a, b, &alice, &open, txn).await;
        eventually("the ends are tied up", async || {
            clock.advance(Duration::from_mins(5));
            ends(b, &open).await.len() == 1
        })
        .await;
        let tied = ends(b, &open).await;
        let event = b.event(&tied[0]).await.unwrap();
        assert_eq!((event.pdu.kind(), event.pdu.sender()), (DUMMY, &*bob));
        assert_eq!(event.pdu.prev_events().len(), MANY);
        // Everybody has it.
        eventually("they are there as well", async || {
            ends(a, &open).await == tied
        })
        .await;
        assert_eq!(ends(b, &closed).await, left);
    }
    for server in servers {
        server.end().await;
    }
}
