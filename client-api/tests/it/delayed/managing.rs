//! Whoever knows an event's id may send, cancel or restart it.

use std::time::Duration;

use http::Method;
use serde_json::json;

use super::{START, act, as_usual, ask, got, late, left, listed, numbers, send};
use crate::harness::esc;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test]
async fn one_is_cancelled_and_never_sent() {
    late(as_usual, |server, clock| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let id = send(&alice, &room, 1, 1_500).await;
        clock.advance(ms(1_000));
        assert_eq!(act(&server, &id, "cancel").await, (200, json!({})));
        assert!(listed(&alice).await.is_empty());
        assert_eq!(act(&server, &id, "cancel").await, (200, json!({})));
        for action in ["send", "restart"] {
            let (status, answer) = act(&server, &id, action).await;
            assert_eq!((status, &answer["errcode"]), (409, &json!("M_UNKNOWN")));
        }
        let (_, event) = got(&alice, &id).await;
        assert_eq!(event["finalised_ts"], START + 1_000);
        assert!(event.get("event_id").is_none() && event.get("error").is_none());
        // What comes after it is sent, and it isn't.
        send(&alice, &room, 2, 1_000).await;
        clock.advance(ms(1_000));
        left(&alice, 0).await;
        assert_eq!(numbers(&alice, &room).await, [2]);
    })
    .await;
}

#[tokio::test]
async fn one_is_sent_at_once() {
    late(as_usual, |server, clock| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let id = send(&alice, &room, 1, 100_000).await;
        clock.advance(ms(10));
        assert_eq!(act(&server, &id, "send").await, (200, json!({})));
        assert_eq!(numbers(&alice, &room).await, [1]);
        assert!(listed(&alice).await.is_empty());
        assert_eq!(act(&server, &id, "send").await, (200, json!({})));
        for action in ["cancel", "restart"] {
            let (status, answer) = act(&server, &id, action).await;
            assert_eq!((status, &answer["errcode"]), (409, &json!("M_UNKNOWN")));
        }
        let (_, event) = got(&alice, &id).await;
        assert_eq!(event["finalised_ts"], START + 10);
        assert!(event["event_id"].is_string());
        // Once.
        let other = send(&alice, &room, 2, 100_000).await;
        clock.advance(ms(100_000));
        left(&alice, 0).await;
        assert_eq!(act(&server, &other, "send").await.0, 200);
        assert_eq!(numbers(&alice, &room).await, [1, 2]);
    })
    .await;
}

/// What can't be sent now may be by the time that it is due.
#[tokio::test]
async fn one_that_cannot_be_sent_at_once_stays_scheduled() {
    late(as_usual, |server, clock| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        let id = send(&bob, &room, 1, 1_000).await;
        let (status, answer) = act(&server, &id, "send").await;
        assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
        assert_eq!(listed(&bob).await.len(), 1);
        bob.join(&room).await;
        clock.advance(ms(1_000));
        left(&bob, 0).await;
        assert_eq!(numbers(&alice, &room).await, [1]);
    })
    .await;
}

#[tokio::test]
async fn heartbeats_push_one_on() {
    late(as_usual, |server, clock| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let id = send(&alice, &room, 1, 1_500).await;
        for _ in 0..5 {
            clock.advance(ms(1_000));
            assert_eq!(act(&server, &id, "restart").await, (200, json!({})));
        }
        let event = &listed(&alice).await[0];
        assert_eq!(event["scheduled_at"], START + 5_000);
        assert_eq!(event["delay_ms"], 1_500);
        clock.advance(ms(1_499));
        assert!(numbers(&alice, &room).await.is_empty());
        clock.advance(ms(1));
        left(&alice, 0).await;
        assert_eq!(numbers(&alice, &room).await, [1]);
        let (_, event) = got(&alice, &id).await;
        assert_eq!(event["finalised_ts"], START + 6_500);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    late(as_usual, |server, _| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        let long = "x".repeat(4_000);
        for id in ["abc", "\u{1}", "%", long.as_str()] {
            for action in ["send", "cancel", "restart"] {
                let (status, answer) = act(&server, id, action).await;
                assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")));
            }
            assert_eq!(got(&alice, id).await.0, 404);
        }
        let id = send(&alice, &room, 1, 1_000).await;
        let (status, answer) = act(&server, &id, "oops").await;
        assert_eq!(
            (status, &answer["errcode"]),
            (404, &json!("M_UNRECOGNIZED"))
        );
        // Others don't see it, and nobody does who doesn't say who they are.
        assert_eq!(got(&bob, &id).await.0, 404);
        for path in [
            "/delayed_events".to_owned(),
            format!("/delayed_events/{}", esc(&id)),
        ] {
            let (status, answer) = ask(&server, None, Method::GET, &path, None).await;
            assert_eq!(
                (status, &answer["errcode"]),
                (401, &json!("M_MISSING_TOKEN"))
            );
        }
        assert_eq!(listed(&alice).await.len(), 1);
    })
    .await;
}

/// As clients of an earlier version of the proposal ask for it.
#[tokio::test]
async fn the_body_may_say_what_is_to_be_done() {
    late(as_usual, |server, _| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let id = send(&alice, &room, 1, 1_000).await;
        let path = format!("/delayed_events/{}", esc(&id));
        let post = async |body| ask(&server, None, Method::POST, &path, Some(body)).await;
        for (body, errcode) in [
            (json!({}), "M_MISSING_PARAM"),
            (json!({ "action": "oops" }), "M_INVALID_PARAM"),
            (json!({ "action": 1 }), "M_INVALID_PARAM"),
            (json!([]), "M_BAD_JSON"),
        ] {
            let (status, answer) = post(body).await;
            assert_eq!((status, &answer["errcode"]), (400, &json!(errcode)));
        }
        assert_eq!(post(json!({ "action": "restart" })).await.0, 200);
        assert_eq!(post(json!({ "action": "send" })).await.0, 200);
        assert_eq!(numbers(&alice, &room).await, [1]);
    })
    .await;
}
