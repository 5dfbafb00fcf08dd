//! How much may be scheduled, and how long it is kept what became of it.

use std::time::Duration;

use http::Method;
use rhizome_client_api::config::Rate;
use rhizome_storage::collect::Collecting;
use serde_json::{Value, json};

use super::{KIND, START, act, as_usual, ask, got, late, left, listed, send, try_send};
use crate::harness::esc;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test]
async fn a_user_has_so_many_scheduled_for_so_long() {
    let few = |config: &mut rhizome_client_api::ClientConfig| {
        config.delayed.most = 2;
        config.delayed.max_delay = Duration::from_secs(10);
    };
    late(few, |server, clock| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        let capabilities = alice.read("/capabilities").await;
        let limits = &capabilities["capabilities"]["org.matrix.msc4140.delayed_events"];
        assert_eq!(
            *limits,
            json!({ "max_delay_ms": 10_000, "max_scheduled": 2 })
        );
        let versions = server.request(Method::GET, "/_matrix/client/versions", None, None);
        assert_eq!(
            versions.await.1["unstable_features"]["org.matrix.msc4140"],
            true
        );

        let wish = |delay: &'static str| {
            try_send(&alice, &room, (KIND, delay), delay, Some(json!({ "n": 0 })))
        };
        for delay in ["10001", "99999999999999999999"] {
            let (status, answer) = wish(delay).await;
            assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
        }
        let first = send(&alice, &room, 1, 5_500).await;
        send(&alice, &room, 2, 10_000).await;
        clock.advance(ms(1_000));
        let (status, answer) = wish("9999").await;
        assert_eq!(
            (status, &answer["errcode"]),
            (429, &json!("M_LIMIT_EXCEEDED"))
        );
        assert_eq!(answer["retry_after_ms"], 4_500);
        // Others have theirs, what was done isn't done again, and what is over leaves its place.
        bob.join(&room).await;
        send(&bob, &room, 1, 1_000).await;
        assert_eq!(send(&alice, &room, 1, 5_500).await, first);
        assert_eq!(act(&server, &first, "cancel").await.0, 200);
        assert_eq!(wish("9999").await.0, 200);
        assert_eq!(wish("9998").await.0, 429);
        clock.advance(ms(10_000));
        left(&alice, 0).await;
        assert_eq!(wish("9997").await.0, 200);
    })
    .await;
}

#[tokio::test]
async fn an_operator_may_switch_it_off() {
    let none = |config: &mut rhizome_client_api::ClientConfig| config.delayed.most = 0;
    late(none, |server, _| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let content = Some(json!({ "n": 1 }));
        let (status, answer) = try_send(&alice, &room, (KIND, "1"), "1000", content).await;
        assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
        assert!(listed(&alice).await.is_empty());
    })
    .await;
}

/// Whoever had many events sent at one moment gets no further than who sends them one by one.
#[tokio::test]
async fn what_is_due_counts_as_messages() {
    let strict = |config: &mut rhizome_client_api::ClientConfig| {
        config.rate_limits.enabled = true;
        config.rate_limits.message = Rate {
            per_second: 0.1,
            burst: 3,
        };
    };
    late(strict, |server, clock| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let mut ids = Vec::new();
        for n in 0..3 {
            ids.push(send(&alice, &room, n, 10_000).await);
        }
        let (status, answer) = act(&server, &ids[2], "send").await;
        assert_eq!(
            (status, &answer["errcode"]),
            (429, &json!("M_LIMIT_EXCEEDED"))
        );
        assert_eq!(listed(&alice).await.len(), 3);
        // By then there is room for one.
        clock.advance(ms(10_000));
        left(&alice, 0).await;
        let mut sent = 0;
        for id in &ids {
            let (_, event) = got(&alice, id).await;
            match &event["error"] {
                Value::Null => sent += usize::from(event["event_id"].is_string()),
                error => assert_eq!(error["errcode"], "M_LIMIT_EXCEEDED"),
            }
        }
        assert_eq!(sent, 1);
    })
    .await;
}

#[tokio::test]
async fn what_is_over_is_kept_for_a_week() {
    late(as_usual, |server, clock| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let id = send(&alice, &room, 1, 1_000).await;
        let later = send(&alice, &room, 2, 20 * 86_400_000).await;
        clock.advance(ms(1_000));
        left(&alice, 1).await;
        let how = Collecting {
            pause: Duration::ZERO,
            ..Collecting::default()
        };
        clock.advance(Duration::from_hours(24 * 7 - 1));
        server.store.collect_snapshots(how).await.unwrap();
        assert_eq!(got(&alice, &id).await.0, 200);
        clock.advance(Duration::from_hours(2));
        server.store.collect_snapshots(how).await.unwrap();
        assert_eq!(got(&alice, &id).await.0, 404);
        assert_eq!(act(&server, &id, "send").await.0, 404);
        assert_eq!(got(&alice, &later).await.0, 200);
    })
    .await;
}

#[tokio::test]
async fn what_can_be_no_event_is_refused_at_once() {
    late(as_usual, |server, _| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let large = json!({ "body": "x".repeat(65_400) });
        let long = "k".repeat(256);
        for (kind, delay, content, status, errcode) in [
            (KIND, "0", json!({}), 400, "M_INVALID_PARAM"),
            (KIND, "-1", json!({}), 400, "M_INVALID_PARAM"),
            (KIND, "", json!({}), 400, "M_INVALID_PARAM"),
            (KIND, "soon", json!({}), 400, "M_INVALID_PARAM"),
            (KIND, "1000", json!([]), 400, "M_BAD_JSON"),
            (KIND, "1000", json!({ "a": 1.5 }), 400, "M_BAD_JSON"),
            (KIND, "1000", large, 413, "M_TOO_LARGE"),
            (&long, "1000", json!({}), 413, "M_TOO_LARGE"),
            ("m.room.create", "1000", json!({}), 400, "M_BAD_JSON"),
            ("m.room.redaction", "1000", json!({}), 400, "M_BAD_JSON"),
        ] {
            let (got, answer) = try_send(&alice, &room, (kind, "1"), delay, Some(content)).await;
            assert_eq!(
                (got, &answer["errcode"]),
                (status, &json!(errcode)),
                "{kind} {delay}"
            );
        }
        let (got, answer) = try_send(&alice, "no room", (KIND, "1"), "1", Some(json!({}))).await;
        assert_eq!((got, &answer["errcode"]), (400, &json!("M_INVALID_PARAM")));
        let txn = "t".repeat(256);
        let (got, answer) = try_send(&alice, &room, (KIND, &txn), "1", Some(json!({}))).await;
        assert_eq!((got, &answer["errcode"]), (400, &json!("M_INVALID_PARAM")));

        let path = format!("/rooms/{}/delayed_event/{KIND}/1", esc(&room));
        for (body, errcode) in [
            (json!({}), "M_MISSING_PARAM"),
            (json!({ "delay_ms": 1000 }), "M_MISSING_PARAM"),
            (json!({ "content": {} }), "M_MISSING_PARAM"),
            (json!({ "delay_ms": 0, "content": {} }), "M_INVALID_PARAM"),
            (json!({ "delay_ms": -5, "content": {} }), "M_INVALID_PARAM"),
            (json!({ "delay_ms": 1.5, "content": {} }), "M_INVALID_PARAM"),
            (json!({ "delay_ms": "1", "content": {} }), "M_INVALID_PARAM"),
            (json!({ "delay_ms": 1, "content": [] }), "M_BAD_JSON"),
            (
                json!({ "delay_ms": 1, "content": {}, "state_key": 1 }),
                "M_BAD_JSON",
            ),
        ] {
            let (status, answer) = ask(&server, Some(&alice), Method::PUT, &path, Some(body)).await;
            assert_eq!((status, &answer["errcode"]), (400, &json!(errcode)));
        }
        assert!(listed(&alice).await.is_empty());
        assert!(server.store.next_delayed_ms(&[]).await.unwrap().is_none());
        assert_eq!(server.store.clock().now_ms(), START);
    })
    .await;
}
