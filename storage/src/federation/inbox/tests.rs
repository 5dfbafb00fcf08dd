//! The inbox on both databases.

use ruma::{owned_event_id, owned_room_id, owned_server_name, room_id, server_name};

use super::*;
use crate::testing::{TestDatabase, each_database};
use crate::{Clock, Fact, InboundAnswer, Options, WriteSet};

fn event(name: &str, room: &str, received_ts: i64) -> InboxEvent {
    InboxEvent {
        event_id: format!("${name}").try_into().unwrap(),
        origin: owned_server_name!("far.org"),
        room_id: room.try_into().unwrap(),
        room_version: "12".to_owned(),
        event: r#"{"a":"\u0000'\"","b":9007199254740991}"#.into(),
        received_ts,
        attempts: 0,
    }
}

fn names(events: &[InboxEvent]) -> Vec<&str> {
    events
        .iter()
        .map(|event| &event.event_id.as_str()[1..])
        .collect()
}

#[tokio::test]
async fn a_transaction_keeps_its_first_answer() {
    for database in TestDatabase::both().await {
        let store = database.open().await;
        let (origin, txn) = (server_name!("far.org"), "a\u{0}b");
        assert_eq!(store.inbound_txn(origin, txn).await.unwrap(), None);
        for response in [r#"{"pdus":{}}"#, "{}"] {
            let fact = Fact::InboundAnswer(InboundAnswer {
                origin: origin.to_owned(),
                txn_id: txn.to_owned(),
                response: response.to_owned(),
                received_ts: 5,
            });
            let set = WriteSet::from(vec![fact]);
            store.commit(set).await.unwrap();
        }
        assert_eq!(
            store.inbound_txn(origin, txn).await.unwrap().as_deref(),
            Some(r#"{"pdus":{}}"#)
        );
        assert_eq!(
            store
                .inbound_txn(server_name!("near.org"), txn)
                .await
                .unwrap(),
            None
        );
        assert_eq!(store.forget_inbound_txns(i64::MAX).await.unwrap(), 1);
        assert_eq!(store.inbound_txn(origin, txn).await.unwrap(), None);
        store.close().await;
    }
}

#[tokio::test]
async fn events_wait_in_order_and_are_claimed_once() {
    for database in TestDatabase::both().await {
        let options = Options {
            clock: Clock::manual(300),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        let room = room_id!("!room:far.org");
        let added = [event("b", room.as_str(), 5), event("a", room.as_str(), 5)];
        assert_eq!(store.inbox_add(&added, 3).await.unwrap(), 2);
        // Again: kept once.
        assert_eq!(store.inbox_add(&added[..1], 3).await.unwrap(), 1);
        assert_eq!(
            store
                .inbox_add(&[event("c", "!other:far.org", 9), event("d", "!x:y", 9)], 3)
                .await
                .unwrap(),
            1
        );
        assert_eq!(store.inbox_size(server_name!("far.org")).await.unwrap(), 3);
        let far = server_name!("far.org");
        let lane = |room_id: &RoomId, is_new| InboxLane {
            room_id: room_id.to_owned(),
            origin: far.to_owned(),
            is_new,
        };
        let other = owned_room_id!("!other:far.org");
        assert_eq!(
            store.inbox_lanes(100, 10, 10).await.unwrap(),
            [lane(room, true), lane(&other, true)]
        );

        let claim = async |now, until| store.inbox_claim(room, far, false, (now, until), 10).await;
        let claimed = claim(100, 200).await.unwrap();
        assert_eq!(names(&claimed), ["b", "a"]);
        assert_eq!(claimed[0], added[0]);
        assert!(claim(100, 200).await.unwrap().is_empty());
        assert_eq!(store.inbox_next_due(100).await.unwrap(), Some(200));

        // One is decided, one is put off, then woken.
        store.inbox_done(&owned_event_id!("$b")).await.unwrap();
        store
            .inbox_later(&owned_event_id!("$a"), server_name!("far.org"), 500)
            .await
            .unwrap();
        assert!(claim(300, 400).await.unwrap().is_empty());
        assert_eq!(store.inbox_wake(room).await.unwrap(), 1);
        assert_eq!(
            store.inbox_lanes(300, 10, 1).await.unwrap(),
            [lane(&other, true)]
        );
        assert!(
            (store
                .inbox_claim(room, far, true, (300, 400), 10)
                .await
                .unwrap())
            .is_empty(),
            "it isn't new"
        );
        let again = claim(300, 400).await.unwrap();
        assert_eq!((names(&again), again[0].attempts), (vec!["a"], 1));
        store
            .inbox_give_up(&again[0].event_id, &again[0].origin)
            .await
            .unwrap();
        assert_eq!(
            store.inbox_lanes(1_000, 10, 10).await.unwrap(),
            [lane(&other, true)]
        );
        store.close().await;
    }
}

#[tokio::test]
async fn everybodys_first_goes_before_anybodys_second() {
    each_database(async |store: Store| {
        let of = |origin: &str, room: &str, received_ts| InboxEvent {
            origin: origin.try_into().unwrap(),
            ..event(
                &format!("{origin}-{room}"),
                &format!("!{room}:x"),
                received_ts,
            )
        };
        let many: Vec<_> = (0..5)
            .map(|n| of("many.org", &n.to_string(), 10 + n))
            .collect();
        store.inbox_add(&many, 100).await.unwrap();
        store
            .inbox_add(&[of("few.org", "9", 90)], 100)
            .await
            .unwrap();
        let lanes = store.inbox_lanes(100, 3, 10).await.unwrap();
        let lanes: Vec<_> = lanes
            .iter()
            .map(|lane| (lane.origin.as_str(), lane.room_id.as_str()))
            .collect();
        assert_eq!(
            lanes,
            [
                ("many.org", "!0:x"),
                ("few.org", "!9:x"),
                ("many.org", "!1:x"),
                ("many.org", "!2:x"),
            ]
        );
    })
    .await;
}

/// Waiting for something else than an answer is no attempt; what is put off waits, and can be looked at.
#[tokio::test]
async fn what_was_not_tried_counts_no_attempt() {
    each_database(async |store: Store| {
        let (room, far) = (room_id!("!room:far.org"), server_name!("far.org"));
        let added: Vec<_> = (0..6)
            .map(|n| event(&n.to_string(), room.as_str(), 10 + n))
            .collect();
        store.inbox_add(&added, 100).await.unwrap();
        let claim = async |now, until, limit| {
            let claimed = store.inbox_claim(room, far, false, (now, until), limit);
            claimed.await.unwrap()
        };
        let claimed = claim(100, 200, 3).await;
        assert_eq!(names(&claimed), ["0", "1", "2"]);
        // The first is tried in vain, the others are put off.
        store
            .inbox_later(&claimed[0].event_id, far, 300)
            .await
            .unwrap();
        for event in &claimed[1..] {
            store
                .inbox_put_off(&event.event_id, far, 250)
                .await
                .unwrap();
        }
        let claimed = claim(249, 400, 10).await;
        assert_eq!(names(&claimed), ["3", "4", "5"]);
        let waiting = store.inbox_waiting(room, 249, 4, 10).await.unwrap();
        assert_eq!(names(&waiting), ["1", "2", "3", "4"]);
        let claimed = claim(500, 600, 10).await;
        assert_eq!(names(&claimed), ["1", "2", "3", "4", "5", "0"]);
        let tries: Vec<_> = claimed.iter().map(|event| event.attempts).collect();
        assert_eq!(tries, [0, 0, 0, 0, 0, 1]);
        assert_eq!(store.inbox_forget(13).await.unwrap(), 3);
        assert_eq!(store.inbox_size(far).await.unwrap(), 3);
    })
    .await;
}
