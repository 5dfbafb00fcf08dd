//! What a room's server ACL closes: every endpoint of the room, and what comes by transactions.

use http::Method;
use rhizome_federation::testing::Network;
use rhizome_storage::testing::TestDatabase;
use ruma::{EventId, RoomId, RoomVersionId};
use serde_json::{Value, json};

use crate::{
    inbound::{forge, newest},
    world::{Server, each, enc, eventually, json_of},
};

/// Nobody of `b.example` has anything to do in the room any more.
async fn deny(host: &Server, room: &RoomId) {
    let acl = json!({ "allow": ["*"], "deny": ["b.*"] });
    let alice = host.user("alice");
    let sent = host.send(&alice, room, "m.room.server_acl", Some(""), acl);
    sent.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_of_the_room_is_closed() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &room, a).await.unwrap();
        let prev = newest(b, &room).await;
        let member = async |whom: &str, membership: &str| {
            let content = json!({ "membership": membership });
            let prev: &[&EventId] = &[&prev];
            forge(b, 2, &bob, &room, prev, "m.room.member", Some(whom), content).await
        };
        let mut asked = Vec::new();
        for (what, membership) in [("join", "join"), ("leave", "leave"), ("knock", "knock")] {
            let (room, user) = (enc(&room), enc(&bob));
            let path = format!("v1/make_{what}/{room}/{user}?ver=11");
            asked.push((Method::GET, path, None));
            let event = member(bob.as_str(), membership).await;
            let versions: &[&str] = if what == "knock" { &["v1"] } else { &["v1", "v2"] };
            for version in versions {
                let path = format!("{version}/send_{what}/{room}/{}", enc(event.event_id()));
                asked.push((Method::PUT, path, Some(json_of(&event))));
            }
        }
        let invite = member(a.user("ann").as_str(), "invite").await;
        let path = format!("invite/{}/{}", enc(&room), enc(invite.event_id()));
        let body = json!({ "room_version": "11", "event": json_of(&invite), "invite_room_state": [] });
        asked.push((Method::PUT, format!("v2/{path}"), Some(body)));
        let third = json!({
            "type": "m.room.member", "room_id": room, "sender": alice, "state_key": bob,
            "content": { "membership": "invite", "third_party_invite": {
                "display_name": "bob",
                "signed": { "mxid": bob, "token": "t", "signatures": { "id.example": { "ed25519:0": "x" } } },
            } },
        });
        let path = format!("v1/exchange_third_party_invite/{}", enc(&room));
        asked.push((Method::PUT, path, Some(third)));
        let missing = json!({ "earliest_events": [], "latest_events": [prev] });
        let path = format!("v1/get_missing_events/{}", enc(&room));
        asked.push((Method::POST, path, Some(missing)));
        let (id, event) = (enc(&room), enc(&prev));
        for path in [
            format!("v1/state/{id}?event_id={event}"),
            format!("v1/state_ids/{id}?event_id={event}"),
            format!("v1/event_auth/{id}/{event}"),
            format!("v1/backfill/{id}?v={event}&limit=10"),
            format!("v1/timestamp_to_event/{id}?ts=1&dir=f"),
            format!("v1/event/{event}"),
        ] {
            asked.push((Method::GET, path, None));
        }

        deny(a, &room).await;
        for (method, path, body) in asked {
            let path = format!("/_matrix/federation/{path}");
            let refused = b.request(a, method, &path, body).await;
            let Err(error) = refused else {
                panic!("{path} is open");
            };
            assert_eq!((error.status.as_u16(), &*error.errcode), (403, "M_FORBIDDEN"), "{path}");
            assert!(error.message.contains("ACL"), "{path}: {error}");
        }
    })
    .await;
}

/// Of one unit that is about two rooms, what is about the open one counts.
#[tokio::test(flavor = "multi_thread")]
async fn receipts_and_typing_are_taken_where_the_room_is_open() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let (mut rooms, mut units) = (Vec::new(), Vec::new());
        let mut read = serde_json::Map::new();
        for _ in 0..2 {
            let room = a.create(&alice, &RoomVersionId::V12).await;
            b.join(&bob, &room, a).await.unwrap();
            let said = a.say(&alice, &room, "read me").await;
            let receipt = json!({ "event_ids": [said], "data": { "ts": 1 } });
            read.insert(room.to_string(), json!({ "m.read": { &bob: receipt } }));
            let content = json!({ "room_id": room, "user_id": bob, "typing": true });
            units.push(json!({ "edu_type": "m.typing", "content": content }));
            rooms.push(room);
        }
        units.push(json!({ "edu_type": "m.receipt", "content": Value::Object(read) }));
        deny(a, &rooms[0]).await;
        b.transaction(a, "units", &[], &units).await;
        let user = a.store().known_user(&bob).await.unwrap().unwrap();
        for (room, counts) in rooms.iter().zip([0, 1]) {
            let no = a.store().room(room).await.unwrap().unwrap().room;
            let receipts = a.store().receipts_of(no, user).await.unwrap();
            assert_eq!(receipts.len(), counts);
            let typing = a.store().ephemeral().typing(no).1;
            assert_eq!(typing.len(), counts);
        }
    })
    .await;
}

/// What waits to be decided came when there was no such ACL, or when there was no room yet.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_dropped_when_its_server_is_denied() {
    let network = Network::default();
    let databases = [TestDatabase::sqlite(), TestDatabase::sqlite()];
    let mut a = Server::new(&network, databases[0].open().await, 0);
    let b = Server::new(&network, databases[1].open().await, 1);
    a.run();
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let room = a.create(&alice, &RoomVersionId::V12).await;
    b.join(&bob, &room, &a).await.unwrap();
    b.say(&bob, &room, "first").await;
    let second = b.say(&bob, &room, "second").await;
    let second = b.event(&second).await.unwrap();
    // The first is missing, and nobody gives it.
    network.cut(&b.name);
    b.transaction(&a, "gap", &[json_of(&second.pdu)], &[]).await;
    assert_eq!(a.store().inbox_size(&b.name).await.unwrap(), 1);

    deny(&a, &room).await;
    network.mend(&b.name);
    a.restart(&network, &databases[0], 0).await;
    eventually("nothing waits", async || {
        a.store().inbox_size(&b.name).await.unwrap() == 0
    })
    .await;
    assert!(a.heard(&room).await.is_empty());
    assert!(a.event(second.pdu.event_id()).await.is_none());
    a.end().await;
    b.end().await;
}
