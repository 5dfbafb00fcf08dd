//! Requests on the WebSocket stream, when frames come, and what is told at its end.

use std::{sync::Arc, time::Duration};

use axum::Router;
use http::Method;
use rhizome_client_api::config::Rate;
use rhizome_federation::testing::Network;
use rhizome_storage::{
    Clock, Options, Store,
    testing::{TestDatabase, soon},
};
use ruma::server_name;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    harness::{Server, esc, events, next, story, timeline},
    stream::{close_code, connect, frame, listen, message, send},
};

/// Runs a test with a store whose clock the test holds.
async fn held(test: impl AsyncFn(Store)) {
    for database in TestDatabase::both().await {
        let options = Options {
            clock: Clock::manual(crate::asking::START_MS),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        test(store.clone()).await;
        store.close().await;
        database.remove().await;
    }
}

fn state(room: &str, kind: &str, content: &Value) -> Value {
    json!({"type": "state", "txn_id": "s", "room_id": room, "event_type": kind, "content": content})
}

#[tokio::test]
async fn what_http_does_to_a_room_the_socket_does() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let address = listen(&server).await;
        let room = alice.create_public().await;
        bob.join(&room).await;
        let said = bob.say(&room, "hello").await;
        let since = next(&bob.sync(None, "").await);
        let mut socket = connect(address, &alice, None).await;
        let mut ask = async |mut request: Value| {
            request["txn_id"] = "t".into();
            request["room_id"] = room.clone().into();
            send(&mut socket, request).await;
            let ack = frame(&mut socket, "ack").await;
            assert_eq!(ack["txn_id"], "t");
            ack
        };

        let topic = state(&room, "m.room.topic", &json!({ "topic": "tea" }));
        let topic = ask(topic).await["event_id"].clone();
        let path = format!("/rooms/{}/state/m.room.topic/", esc(&room));
        assert_eq!(bob.read(&path).await["topic"], "tea");
        let redaction = json!({"type": "redact", "event_id": topic, "reason": "cold"});
        let redacted = ask(redaction.clone()).await["event_id"].clone();
        assert!(redacted.is_string());
        assert_eq!(ask(redaction).await["event_id"], redacted, "the same again");
        assert!(bob.read(&path).await.get("topic").is_none());

        ask(json!({"type": "typing", "typing": true, "timeout": 100_000})).await;
        ask(json!({"type": "receipt", "receipt_type": "m.read", "event_id": said})).await;
        ask(json!({"type": "read_markers", "m.fully_read": said, "m.read.private": said})).await;
        let sync = bob.sync(Some(&since), "").await;
        let told = events(&sync, &["rooms", "join", &room, "ephemeral", "events"]);
        let of = |kind: &str| told.iter().find(|event| event["type"] == kind);
        assert_eq!(
            of("m.typing").unwrap()["content"]["user_ids"],
            json!([alice.id])
        );
        let receipts = &of("m.receipt").unwrap()["content"][&said];
        assert!(receipts["m.read"][&alice.id]["ts"].is_u64(), "{receipts}");
        assert!(receipts.get("m.read.private").is_none());
        let path = format!(
            "/user/{}/rooms/{}/account_data/m.fully_read",
            esc(&alice.id),
            esc(&room)
        );
        assert_eq!(alice.read(&path).await["event_id"], said);
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_over_http_is_refused_on_the_socket() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let address = listen(&server).await;
        let (room, foreign) = (alice.create_public().await, bob.create(json!({})).await);
        let other = bob.another_device().await;
        let mut socket = connect(address, &alice, None).await;
        for (request, errcode) in [
            (state(&foreign, "m.room.topic", &json!({})), "M_FORBIDDEN"),
            (state(&room, "m.room.topic", &json!([])), "M_BAD_JSON"),
            (json!({"type": "redact", "room_id": room, "event_id": "$x"}), "M_BAD_JSON"),
            (json!({"type": "typing", "room_id": foreign, "typing": true}), "M_FORBIDDEN"),
            (json!({"type": "typing", "room_id": room}), "M_BAD_JSON"),
            (
                json!({"type": "receipt", "room_id": room, "receipt_type": "m.odd", "event_id": "$x"}),
                "M_INVALID_PARAM",
            ),
            (json!({"type": "read_markers", "room_id": foreign}), "M_FORBIDDEN"),
            (json!({"type": "filter", "filter": "77"}), "M_INVALID_PARAM"),
            (json!({"type": "filter", "filter": {"room": 1}}), "M_INVALID_PARAM"),
            (json!({"type": "auth", "access_token": "wrong"}), "M_UNKNOWN_TOKEN"),
            (json!({"type": "auth", "access_token": other.token}), "M_FORBIDDEN"),
            (json!({"type": "presence", "presence": "asleep"}), "M_INVALID_PARAM"),
            (json!({"type": "odd"}), "M_UNRECOGNIZED"),
        ] {
            let mut named = request.clone();
            named["txn_id"] = "x".into();
            if request["type"] == "redact" {
                named = request.clone();
            }
            send(&mut socket, named).await;
            let error = frame(&mut socket, "error").await;
            assert_eq!(error["errcode"], errcode, "{request}: {error}");
        }
        send(&mut socket, message(&room, "t", "still there")).await;
        frame(&mut socket, "ack").await;
    })
    .await;
}

#[tokio::test]
async fn limits_are_those_of_http() {
    for database in TestDatabase::both().await {
        let store = database.open().await;
        let server = Server::with(store.clone(), |config| {
            config.rate_limits.enabled = true;
            let rate = |burst| Rate {
                per_second: 0.001,
                burst,
            };
            config.rate_limits.message = rate(2);
            config.rate_limits.other = rate(10);
        });
        let alice = server.register("alice").await;
        let address = listen(&server).await;
        let room = alice.create_public().await;
        let mut socket = connect(address, &alice, None).await;
        alice.say(&room, "over HTTP").await;
        send(&mut socket, message(&room, "t1", "one")).await;
        frame(&mut socket, "ack").await;
        send(&mut socket, state(&room, "m.room.topic", &json!({}))).await;
        let error = frame(&mut socket, "error").await;
        assert_eq!(error["errcode"], "M_LIMIT_EXCEEDED");
        assert!(error["retry_after_ms"].is_u64(), "{error}");
        let typing = json!({"type": "typing", "room_id": room, "typing": true});
        for _ in 0..20 {
            send(&mut socket, typing.clone()).await;
        }
        assert_eq!(
            frame(&mut socket, "error").await["errcode"],
            "M_LIMIT_EXCEEDED"
        );
        store.close().await;
        database.remove().await;
    }
}

#[tokio::test]
async fn another_filter_goes_on_from_where_the_one_before_was() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let address = listen(&server).await;
        let room = alice.create_public().await;
        bob.join(&room).await;
        let mut socket = connect(address, &alice, None).await;
        frame(&mut socket, "sync").await;
        let one = bob.say(&room, "one").await;
        assert_eq!(timeline(&frame(&mut socket, "sync").await, &room), [one]);

        let topics = json!({"room": {"timeline": {"types": ["m.room.topic"]}}});
        send(&mut socket, json!({"type": "filter", "filter": topics})).await;
        frame(&mut socket, "ack").await;
        bob.say(&room, "two").await;
        let topic = alice
            .set_state(&room, "m.room.topic", "", json!({"topic": "x"}))
            .await;
        let told = frame(&mut socket, "sync").await;
        let mut told = timeline(&told, &room);
        if told.is_empty() {
            told = timeline(&frame(&mut socket, "sync").await, &room);
        }
        assert_eq!(told, [topic]);

        let path = format!("/user/{}/filter", esc(&alice.id));
        let all = alice.ok(Method::POST, &path, json!({})).await["filter_id"].clone();
        send(&mut socket, json!({"type": "filter", "filter": all})).await;
        frame(&mut socket, "ack").await;
        let three = bob.say(&room, "three").await;
        assert_eq!(timeline(&frame(&mut socket, "sync").await, &room), [three]);
    })
    .await;
}

#[tokio::test]
async fn a_request_that_takes_its_time_keeps_requests_waiting_but_no_ping() {
    for database in TestDatabase::both().await {
        let store = database.open().await;
        let network = Network::default();
        let (asked, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = {
            let (asked, open) = (asked.clone(), open.clone());
            Router::new().fallback(async move || {
                asked.notify_one();
                open.notified().await;
                http::StatusCode::NOT_FOUND
            })
        };
        network.attach(server_name!("slow"), slow);
        let server = Server::on(store.clone(), &network, |_| {});
        let alice = server.register("alice").await;
        let address = listen(&server).await;
        let room = alice.create_public().await;
        let mut socket = connect(address, &alice, None).await;
        let alias = json!({"alias": "#tea:slow"});
        send(&mut socket, state(&room, "m.room.canonical_alias", &alias)).await;
        soon("the other server is asked", asked.notified()).await;
        send(&mut socket, message(&room, "after", "x")).await;
        send(&mut socket, json!({"type": "ping"})).await;
        frame(&mut socket, "pong").await;
        // Updates go on as well.
        let said = alice.say(&room, "meanwhile").await;
        let mut seen = Vec::new();
        while !seen.contains(&said) {
            seen.extend(timeline(&frame(&mut socket, "sync").await, &room));
        }
        open.notify_one();
        let refused = frame(&mut socket, "error").await;
        assert!(refused["errcode"].is_string(), "{refused}");
        assert_eq!(refused["txn_id"], "s");
        assert_eq!(frame(&mut socket, "ack").await["txn_id"], "after");
        store.close().await;
        database.remove().await;
    }
}

#[tokio::test]
async fn a_few_updates_come_one_by_one_and_what_follows_shortly_after_in_one() {
    held(async |store| {
        let server = Server::new(store.clone());
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let address = listen(&server).await;
        let room = alice.create_public().await;
        bob.join(&room).await;
        let mut socket = connect(address, &alice, None).await;
        frame(&mut socket, "sync").await;
        store.clock().advance(Duration::from_millis(100));
        for round in 0..3 {
            // After some quiet: at once, though the clock stands still.
            for _ in 0..4 {
                let one = bob.say(&room, "one").await;
                assert_eq!(timeline(&frame(&mut socket, "sync").await, &room), [one]);
            }
            let mut burst = Vec::new();
            for _ in 0..5 {
                burst.push(bob.say(&room, "more").await);
            }
            // Answers to requests don't wait.
            send(&mut socket, message(&room, &format!("t{round}"), "mine")).await;
            let mine = frame(&mut socket, "ack").await;
            burst.push(mine["event_id"].as_str().unwrap().to_owned());
            store.clock().advance(Duration::from_millis(100));
            assert_eq!(timeline(&frame(&mut socket, "sync").await, &room), burst);
            store.clock().advance(Duration::from_millis(100));
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_that_expires_is_told_and_may_be_renewed() {
    held(async |store| {
        let server = Server::with(store.clone(), |config| {
            config.stream_heartbeat = Duration::from_millis(200);
        });
        let alice = server.register("alice").await;
        let address = listen(&server).await;
        let login = json!({"type": "m.login.password", "password": "a good password", "refresh_token": true,
            "identifier": {"type": "m.id.user", "user": alice.id}});
        let post = async |path: &str, body: Value| {
            let path = format!("/_matrix/client/v3{path}");
            let (status, answer) = server.request(Method::POST, &path, None, Some(body)).await;
            assert_eq!(status, 200, "{answer}");
            answer
        };
        let session = post("/login", login).await;
        let mut user = alice.clone();
        user.token = session["access_token"].as_str().unwrap().to_owned();
        let mut socket = connect(address, &user, None).await;
        frame(&mut socket, "sync").await;

        let refresh = json!({ "refresh_token": session["refresh_token"] });
        let renewed = post("/refresh", refresh).await["access_token"].clone();
        send(&mut socket, json!({"type": "auth", "txn_id": "r", "access_token": renewed})).await;
        assert_eq!(frame(&mut socket, "ack").await["txn_id"], "r");
        // The old one has ended with that, which ends nothing here.
        store.clock().advance(Duration::from_mins(1));
        let room = alice.create_public().await;
        let told = frame(&mut socket, "sync").await;
        assert!(told["rooms"]["join"].get(&room).is_some(), "{told}");

        store.clock().advance(Duration::from_hours(1));
        let error = frame(&mut socket, "error").await;
        assert_eq!(error["errcode"], "M_UNKNOWN_TOKEN");
        assert_eq!(error["soft_logout"], true);
        assert_eq!(close_code(&mut socket).await, 4401);
    })
    .await;
}
