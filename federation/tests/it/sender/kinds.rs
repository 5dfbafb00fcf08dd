//! What else is sent, to whom, and by which process.

use std::time::Duration;

use rhizome_federation::testing::Network;
use rhizome_rooms::{create::create, send::SendOptions};
use rhizome_storage::{
    Clock, Fact, Receipt, WriteSet,
    testing::{TestDatabase, eventually},
};
use ruma::OwnedRoomId;
use serde_json::json;

use super::{Peer, Us, alice, public_room, scenario, texts, them};

#[tokio::test]
async fn receipts_and_typing_are_sent() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = a.shared_room().await;
        let event_id = a.say(&room, "message 0").await;
        let fact = |kind: &str, room, user| {
            Fact::Receipt(Receipt {
                room,
                user,
                kind: kind.to_owned(),
                thread: None,
                event_id: event_id.clone(),
                ts: 5,
            })
        };
        let no = a.store.room(&room).await.unwrap().unwrap().room;
        let user = a.store.user_no(alice()).await.unwrap();
        let private = fact("m.read.private", no, user);
        let facts = vec![private, fact("m.read", no, user)];
        a.store.commit(WriteSet::from(facts)).await.unwrap();
        eventually("it is told", async || !peer.edus("m.receipt").is_empty()).await;
        let expected = json!({ "data": { "ts": 5 }, "event_ids": [event_id] });
        let receipts = peer.edus("m.receipt");
        assert_eq!(
            receipts,
            [json!({ &*room: { "m.read": { alice(): expected } } })]
        );

        a.fed.sender().typing([them()], &room, alice(), true);
        eventually("it is told", async || !peer.edus("m.typing").is_empty()).await;
        let expected = json!({ "room_id": room, "user_id": alice(), "typing": true });
        assert_eq!(peer.edus("m.typing"), [expected]);
        a.stop().await;

        // A receipt that was made while nothing was sent isn't forgotten.
        network.cut(them());
        let a = Us::start(&database, &network, &clock).await;
        let facts = vec![Fact::Receipt(Receipt {
            room: no,
            user,
            kind: "m.read".to_owned(),
            thread: Some("main".to_owned()),
            event_id: event_id.clone(),
            ts: 6,
        })];
        a.store.commit(WriteSet::from(facts)).await.unwrap();
        eventually("it fails", async || a.failures() > 0).await;
        a.stop().await;
        network.mend(them());
        clock.advance(Duration::from_secs(100));
        let a = Us::start(&database, &network, &clock).await;
        eventually("it is told again", async || {
            peer.edus("m.receipt").len() >= 2
        })
        .await;
        let second = peer.edus("m.receipt")[1].clone();
        let data = &second[room.as_str()]["m.read"][alice().as_str()]["data"];
        assert_eq!(data, &json!({ "ts": 6, "thread_id": "main" }));
        assert_eq!(peer.messages(), texts(0..1));
        a.stop().await;
    })
    .await;
}

#[tokio::test]
async fn one_event_that_is_refused_does_not_hold_up_the_others() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = a.shared_room().await;
        *peer.refuses.lock().unwrap() = Some("poison".to_owned());
        network.cut(them());
        for text in ["message 0", "message 1", "poison", "message 2", "message 3"] {
            a.say(&room, text).await;
        }
        eventually("it fails", async || a.failures() > 0).await;
        network.mend(them());
        clock.advance(Duration::from_secs(100));
        assert_eq!(peer.wait_for(4).await, texts(0..4));
        a.stop().await;
    })
    .await;
}

/// While it is told of what is sticky in one room, the server comes into another, where that was sent before.
#[tokio::test]
async fn who_comes_into_two_rooms_gets_what_is_sticky_in_both() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let stick = async |room: &OwnedRoomId, text: &str| {
            let options = SendOptions {
                sticky_ms: Some(3_600_000),
                ..SendOptions::default()
            };
            a.say_with(room, text, options).await
        };
        let later = create(a.fed.rooms(), &public_room()).await.unwrap().room_id;
        let first = create(a.fed.rooms(), &public_room()).await.unwrap().room_id;
        let all = texts(0..62);
        for text in &all[..2] {
            stick(&later, text).await;
        }
        for text in &all[2..] {
            stick(&first, text).await;
        }
        let held = peer.gate.lock().await;
        a.bob_joins(&first).await;
        peer.wait_for(50).await;
        a.bob_joins(&later).await;
        a.goes_round(&network, &first).await;
        drop(held);
        let mut got = peer.wait_for(62).await;
        got.sort();
        let mut all = all;
        all.sort();
        assert_eq!(got, all);
        a.stop().await;
    })
    .await;
}

#[tokio::test]
async fn only_the_servers_of_the_room_are_sent_to() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let shared = a.shared_room().await;
        peer.got.lock().unwrap().clear();
        clock.advance(Duration::from_secs(1));
        let own = create(a.fed.rooms(), &public_room()).await.unwrap().room_id;
        a.say(&own, "to myself").await;
        a.say(&shared, "message 0").await;
        assert_eq!(peer.wait_for(1).await, texts(0..1));
        let others: Vec<_> = network
            .requests()
            .into_iter()
            .filter(|(to, _)| to != them())
            .collect();
        assert_eq!(others, []);
        a.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_orderly_stop_waits_for_what_is_under_way() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = a.shared_room().await;
        let held = peer.gate.lock().await;
        let before = network.requests().len();
        a.say(&room, "message 0").await;
        eventually("something is under way", async || {
            network.requests().len() > before
        })
        .await;
        // The answer comes when the end has begun.
        tokio::join!(a.stop(), async { drop(held) });
        let a = Us::start(&database, &network, &clock).await;
        a.say(&room, "message 1").await;
        // In the order of the log: what is sent a second time comes before this.
        eventually("the next arrives", async || {
            peer.messages().contains(&"message 1".to_owned())
        })
        .await;
        assert_eq!(peer.messages(), texts(0..2));
        a.stop().await;
    })
    .await;
}

/// Two processes on one PostgreSQL: one of them sends, whoever an event was made by; when it goes, the
/// other takes over.
#[tokio::test]
async fn of_two_processes_one_sends() {
    let database = TestDatabase::postgres().await;
    let (network, peer) = (Network::default(), Peer::default());
    peer.attach(&network);
    let clock = Clock::system();
    let first = Us::start(&database, &network, &clock).await;
    let second = Us::start(&database, &network, &clock).await;
    let room = first.shared_room().await;
    for pair in texts(0..20).chunks(2) {
        first.say(&room, &pair[0]).await;
        second.store.log().refresh().await.unwrap();
        second.say(&room, &pair[1]).await;
        first.store.log().refresh().await.unwrap();
    }
    assert_eq!(peer.wait_for(20).await, texts(0..20));
    first.stop().await;
    second.say(&room, "message 20").await;
    assert_eq!(peer.wait_for(21).await, texts(0..21));
    second.stop().await;
    assert_eq!(peer.messages(), texts(0..21));
    database.remove().await;
}
