//! What is due is sent, as its user would send it then.

use std::time::Duration;

use http::Method;
use rhizome_storage::{Clock, testing::TestDatabase};
use serde_json::{Value, json};

use super::{
    KIND, START, act, as_usual, ask, got, late, left, listed, numbers, open, send, sending, sent,
    set, stop, try_send,
};
use crate::harness::{Server, esc};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test]
async fn what_is_due_is_sent_in_order_and_not_before() {
    late(as_usual, |server, clock| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        assert!(listed(&alice).await.is_empty());
        let mut ids = Vec::new();
        for (n, delay) in [(1, 700), (3, 900), (2, 800)] {
            let id = send(&alice, &room, n, delay).await;
            // The same again, whatever it says.
            let again = try_send(&alice, &room, (KIND, &n.to_string()), "5", None).await;
            assert_eq!(again, (200, json!({ "delay_id": id })));
            ids.push(id);
        }
        // Another device's is another.
        let phone = alice.another_device().await;
        let other = send(&phone, &room, 1, 100_000).await;
        assert!(!ids.contains(&other));
        assert_eq!(act(&server, &other, "cancel").await.0, 200);

        let waiting = listed(&alice).await;
        let order: Vec<_> = waiting.iter().map(|event| &event["content"]["n"]).collect();
        assert_eq!(order, [1, 2, 3]);
        let expected = json!({
            "delay_id": ids[0], "room_id": room, "type": KIND, "content": { "n": 1 },
            "delay_ms": 700, "scheduled_at": START, "delay": 700, "running_since": START,
        });
        assert_eq!(waiting[0], expected);
        assert_eq!(got(&alice, &ids[0]).await, (200, expected));
        assert!(listed(&bob).await.is_empty());

        for (passed, count) in [(699, 3), (1, 2), (100, 1), (100, 0)] {
            clock.advance(ms(passed));
            left(&alice, count).await;
        }
        let seen = sent(&alice, &room).await;
        for (at, event) in seen.iter().enumerate() {
            let n = i64::try_from(at).unwrap() + 1;
            assert_eq!(event["content"], json!({ "n": n }));
            // Not before it was due.
            assert_eq!(event["origin_server_ts"], START + 600 + n * 100);
            assert_eq!(event["sender"], alice.id.as_str());
            assert!(event["unsigned"].get("transaction_id").is_none());
        }
        assert_eq!(seen.len(), 3);
        let (_, first) = got(&alice, &ids[0]).await;
        assert_eq!(first["event_id"], seen[0]["event_id"]);
        assert_eq!(first["finalised_ts"], START + 700);
        // Who scheduled it knows it again, on any device, and nobody else.
        let name = "org.matrix.msc4140.delay_id";
        assert_eq!(seen[0]["unsigned"][name], ids[0].as_str());
        assert_eq!(
            sent(&phone, &room).await[0]["unsigned"][name],
            ids[0].as_str()
        );
        assert!(sent(&bob, &room).await[0]["unsigned"].get(name).is_none());
        // A repetition still schedules nothing.
        assert_eq!(send(&alice, &room, 1, 700).await, ids[0]);
        assert!(listed(&alice).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn one_that_is_due_earlier_is_sent_earlier() {
    late(as_usual, |server, clock| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        send(&alice, &room, 1, 86_400_000).await;
        left(&alice, 1).await;
        send(&alice, &room, 2, 1_000).await;
        clock.advance(ms(1_000));
        left(&alice, 1).await;
        assert_eq!(numbers(&alice, &room).await, [2]);
        clock.advance(ms(86_399_000));
        left(&alice, 0).await;
        assert_eq!(numbers(&alice, &room).await, [2, 1]);
    })
    .await;
}

#[tokio::test]
async fn state_is_set_when_it_is_due_with_the_power_of_that_moment() {
    late(as_usual, |server, clock| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let early = set(&bob, &room, (KIND, "early"), 1_000).await;
        let late = set(&bob, &room, (KIND, "late"), 2_000).await;
        assert_eq!(listed(&bob).await[0]["state_key"], "early");
        let path = |key: &str| format!("/rooms/{}/state/{KIND}/{key}", esc(&room));
        clock.advance(ms(1_000));
        left(&bob, 1).await;
        let (_, failed) = got(&bob, &early).await;
        assert_eq!(failed["error"]["errcode"], "M_FORBIDDEN", "{failed}");
        assert_eq!(failed["finalised_ts"], START + 1_000);
        assert!(failed.get("event_id").is_none());
        // It is cancelled, by that.
        assert_eq!(act(&server, &early, "cancel").await.0, 200);
        assert_eq!(act(&server, &early, "send").await.0, 409);

        let levels = format!("/rooms/{}/state/m.room.power_levels", esc(&room));
        let mut content = alice.read(&levels).await;
        content["users"][&bob.id] = 50.into();
        alice.ok(Method::PUT, &levels, content).await;
        clock.advance(ms(1_000));
        left(&bob, 0).await;
        assert_eq!(alice.read(&path("late")).await, json!({ "set": true }));
        assert_eq!(alice.get(&path("early")).await.0, 404);

        // State that is so already is as good as sent.
        let again = set(&bob, &room, (KIND, "late"), 10).await;
        clock.advance(ms(10));
        left(&bob, 0).await;
        let ids = [got(&bob, &late).await.1, got(&bob, &again).await.1];
        assert_eq!(ids[0]["event_id"], ids[1]["event_id"]);
    })
    .await;
}

/// The form that the proposal has by now.
#[tokio::test]
async fn an_endpoint_of_its_own_schedules_messages_state_and_redactions() {
    late(as_usual, |server, clock| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let said = alice.say(&room, "never said").await;
        let put = async |kind: &str, txn: &str, body: Value| {
            let path = format!("/rooms/{}/delayed_event/{kind}/{txn}", esc(&room));
            ask(&server, Some(&alice), Method::PUT, &path, Some(body)).await
        };
        let body = json!({ "delay_ms": 500, "content": { "n": 1 } });
        let (status, first) = put(KIND, "1", body.clone()).await;
        assert_eq!(status, 200, "{first}");
        assert_eq!(put(KIND, "1", body).await, (200, first));
        let state = json!({ "delay_ms": 500, "state_key": "k", "content": { "a": 1 } });
        assert_eq!(put("org.example.state", "2", state).await.0, 200);
        let redaction = json!({ "delay_ms": 500, "content": { "redacts": said } });
        assert_eq!(put("m.room.redaction", "3", redaction).await.0, 200);
        assert_eq!(listed(&alice).await.len(), 3);
        clock.advance(ms(500));
        left(&alice, 0).await;
        assert_eq!(numbers(&alice, &room).await, [1]);
        let path = format!("/rooms/{}/state/org.example.state/k", esc(&room));
        assert_eq!(alice.read(&path).await, json!({ "a": 1 }));
        let path = format!("/rooms/{}/event/{}", esc(&room), esc(&said));
        assert_eq!(alice.read(&path).await["content"], json!({}));
    })
    .await;
}

/// What a call's member leaves behind, if nobody says any more that they are there.
#[tokio::test]
async fn one_may_be_sticky() {
    late(as_usual, |server, clock| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let path = format!(
            "/rooms/{}/send/{KIND}/1?org.matrix.msc4140.delay=500&org.matrix.msc4354.sticky_duration_ms=60000",
            esc(&room)
        );
        alice.ok(Method::PUT, &path, json!({ "n": 1 })).await;
        clock.advance(ms(500));
        left(&alice, 0).await;
        let event = &sent(&alice, &room).await[0];
        assert_eq!(event["msc4354_sticky"], json!({ "duration_ms": 60_000 }));
    })
    .await;
}

#[tokio::test]
async fn what_was_due_while_the_server_was_away_is_sent_at_its_start() {
    for database in TestDatabase::both().await {
        let clock = Clock::manual(START);
        let store = open(&database, &clock).await;
        let server = Server::new(store.clone());
        let sends = sending(&server);
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        for (n, delay) in [(3, 3_000), (1, 1_000), (2, 2_000), (4, 10_000_000)] {
            send(&alice, &room, n, delay).await;
        }
        stop(&server, sends).await;
        store.close().await;

        clock.advance(Duration::from_hours(1));
        let store = open(&database, &clock).await;
        let server = Server::new(store.clone());
        let sends = sending(&server);
        let alice = crate::harness::User {
            server: server.clone(),
            ..alice
        };
        left(&alice, 1).await;
        assert_eq!(numbers(&alice, &room).await, [1, 2, 3]);
        stop(&server, sends).await;
        store.close().await;
        database.remove().await;
    }
}
